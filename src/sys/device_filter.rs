//! Device rules on cgroup v2, where they are a BPF program (kernel documentation,
//! `admin-guide/cgroup-v2.rst`, "Device controller"). libcgroups attaches none under systemd, and
//! for cgroupfs only with a C library.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// One rule: does it allow, and what does it match?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Whether a match is allowed or denied.
    pub allow: bool,
    /// Block, character or both.
    pub kind: Kind,
    /// The major number; `None` for all.
    pub major: Option<u32>,
    /// The minor number; `None` for all.
    pub minor: Option<u32>,
    /// `BPF_DEVCG_ACC_*`: 1 to make the node, 2 to read, 4 to write.
    pub access: u32,
}

/// The kind of device, by the numbers of `BPF_DEVCG_DEV_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Block devices.
    Block = 1,
    /// Character devices.
    Character = 2,
    /// Both.
    All = 0,
}

/// Make, read and write.
pub const ALL_ACCESS: u32 = 7;

// linux/bpf.h and linux/bpf_common.h.
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const COPY: u8 = 0xbc;
const SET: u8 = 0xb7;
const JUMP_IF_NOT: u8 = 0x56;
const JUMP_IF_NOT_REGISTER: u8 = 0x5e;
const EXIT: u8 = 0x95;

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Destination in the low four bits, source in the high four.
    registers: u8,
    offset: i16,
    value: i32,
}

fn instruction(code: u8, to: u8, from: u8, offset: i16, value: u32) -> Instruction {
    Instruction { code, registers: to | (from << 4), offset, value: value as i32 }
}

/// Attaches a filter of `rules` to the cgroup directory `cgroup`, beside those that are there.
/// The last rule that matches decides; what none matches is denied.
///
/// # Errors
/// EPERM without CAP_BPF and CAP_NET_ADMIN, or what bpf(2) says.
pub fn attach(cgroup: &File, rules: &[Rule]) -> io::Result<()> {
    let program = load(&assemble(rules))?;
    // The fields of `union bpf_attr` for BPF_PROG_ATTACH.
    let attributes: [u32; 4] = [
        cgroup.as_raw_fd() as u32,
        program.as_raw_fd() as u32,
        BPF_CGROUP_DEVICE,
        BPF_F_ALLOW_MULTI,
    ];
    // SAFETY: the attributes are as long as said and outlive the call.
    unsafe { bpf(BPF_PROG_ATTACH, attributes.as_ptr().cast(), size_of_val(&attributes)) }.map(drop)
}

/// The instructions of a rule without tests.
const VERDICT: usize = 2;

/// Registers: 1 the context, 2 the kind, 3 the access, 4 the major and 5 the minor number.
fn assemble(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(COPY, 3, 2, 0, 0),
        instruction(AND, 2, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let block = block(rule);
        // The kernel refuses programs with code that is never reached.
        let last = block.len() == VERDICT;
        program.extend(block);
        if last {
            return program;
        }
    }
    program.extend([instruction(SET, 0, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);
    program
}

/// The tests of one rule, each of which jumps past the block if it fails, and its verdict.
fn block(rule: &Rule) -> Vec<Instruction> {
    let mut block = Vec::new();
    if rule.kind != Kind::All {
        block.push(instruction(JUMP_IF_NOT, 2, 0, 0, rule.kind as u32));
    }
    if rule.access != ALL_ACCESS {
        // Everything that is asked for must be in the rule.
        block.push(instruction(COPY, 1, 3, 0, 0));
        block.push(instruction(AND, 1, 0, 0, rule.access));
        block.push(instruction(JUMP_IF_NOT_REGISTER, 1, 3, 0, 0));
    }
    block.extend(rule.major.map(|major| instruction(JUMP_IF_NOT, 4, 0, 0, major)));
    block.extend(rule.minor.map(|minor| instruction(JUMP_IF_NOT, 5, 0, 0, minor)));
    block.push(instruction(SET, 0, 0, 0, rule.allow.into()));
    block.push(instruction(EXIT, 0, 0, 0, 0));
    let length = block.len();
    for (i, instruction) in block.iter_mut().enumerate() {
        if matches!(instruction.code, JUMP_IF_NOT | JUMP_IF_NOT_REGISTER) {
            instruction.offset = (length - i - 1) as i16;
        }
    }
    block
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    /// The fields of `union bpf_attr` for BPF_PROG_LOAD.
    #[repr(C)]
    struct Attributes {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log: [u32; 4],
    }
    let attributes = Attributes {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log: [0; 4],
    };
    // SAFETY: the attributes are as long as said, and they and what they point to outlive the call.
    let fd = unsafe {
        bpf(BPF_PROG_LOAD, std::ptr::from_ref(&attributes).cast(), size_of::<Attributes>())
    }?;
    // SAFETY: the kernel just returned this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
/// `attributes` must point to `size` bytes that suit `command`.
unsafe fn bpf(command: libc::c_long, attributes: *const u8, size: usize) -> io::Result<i32> {
    // SAFETY: the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENY_ALL: Rule =
        Rule { allow: false, kind: Kind::All, major: None, minor: None, access: ALL_ACCESS };
    const READ_NULL: Rule =
        Rule { allow: true, kind: Kind::Character, major: Some(1), minor: Some(3), access: 2 };

    #[test]
    fn a_rule_that_fails_a_test_jumps_to_the_next() {
        let block = block(&READ_NULL);
        let jumps: Vec<i16> = block.iter().map(|i| i.offset).collect();
        assert_eq!(jumps, [7, 0, 0, 4, 3, 2, 0, 0]);
        assert_eq!(block[6], instruction(SET, 0, 0, 0, 1));
    }

    #[test]
    fn the_last_rule_is_tested_first() {
        let program = assemble(&[DENY_ALL, READ_NULL]);
        assert_eq!(program[6..14], block(&READ_NULL));
        assert_eq!(program[14..], block(&DENY_ALL));
    }

    #[test]
    fn the_kernel_takes_the_program() {
        match load(&assemble(&[DENY_ALL, READ_NULL])) {
            Ok(_) => {}
            // A kernel without BPF, or a user without the right, says so before it looks.
            Err(error) => {
                assert!(matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)), "{error}")
            }
        }
    }
}
