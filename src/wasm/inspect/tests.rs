use super::*;

fn report(text: &str) -> Report {
    inspect(&wat::parse_str(text).unwrap(), "x").unwrap()
}

fn import<'a>(report: &'a Report, name: &str) -> &'a Import {
    report.imports.iter().find(|import| import.name == name).unwrap()
}

#[test]
fn a_module_is_held_against_wasi_0_1() {
    let report = report(
        r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
            (import "wasi_snapshot_preview1" "fd_close" (func (param i64) (result i32)))
            (import "wasi_snapshot_preview1" "sock_open" (func))
            (import "env" "proxy_log" (func))
            (memory (export "memory") 1 3)
            (func (export "_start")))"#,
    );
    assert_eq!((report.kind, report.role), ("module", Role::Command));
    assert_eq!(report.wasi, ["0.1"]);
    assert_eq!(report.memories, [Memory { minimum: 65536, maximum: Some(196_608), shared: false }]);
    let wasi = import(&report, "wasi_snapshot_preview1");
    assert_eq!(wasi.provider.as_deref(), Some("wasi_snapshot_preview1"));
    let [close, open] = wasi.missing.as_slice() else { panic!("{wasi:?}") };
    assert!(close.contains("fd_close") && close.contains("i64"), "{close}");
    assert_eq!(open, "sock_open");
    assert!(import(&report, "env").world.as_deref().unwrap().contains("Proxy-Wasm"));
    assert_eq!(report.problems.len(), 2, "{:?}", report.problems);
}

#[test]
fn a_component_is_held_against_what_is_linked() {
    let report = report(
        r#"(component
            (import "wasi:cli/environment@0.2.1" (instance
                (export "get-arguments" (func (result (list string))))
                (export "of-a-later-release" (func))))
            (import "wasi:cli/exit@0.2.40" (instance
                (export "exit" (func (param "status" (result))))))
            (import "wasi:io/poll@0.2.1" (instance
                (export "pollable" (type (sub resource)))
                (export "same" (type (eq 0)))))
            (import "wasi:keyvalue/store@0.2.0-draft" (instance (export "get" (func))))
            (import "own" (func)))"#,
    );
    assert_eq!((report.kind, report.role), ("component", Role::Library));
    let environment = import(&report, "wasi:cli/environment@0.2.1");
    assert_eq!(environment.missing, ["of-a-later-release"]);
    assert!(environment.provider.as_deref().unwrap().starts_with("wasi:cli/environment@0.2."));
    let exit = import(&report, "wasi:cli/exit@0.2.40");
    assert!(exit.missing.is_empty() && exit.provider != Some(exit.name.clone()), "{exit:?}");
    let poll = import(&report, "wasi:io/poll@0.2.1");
    assert_eq!((poll.items.len(), poll.missing.len()), (1, 0), "{poll:?}");
    let store = import(&report, "wasi:keyvalue/store@0.2.0-draft");
    assert_eq!((store.provider.as_deref(), store.missing.as_slice()), (None, &["get".into()][..]));
    assert_eq!(store.world.as_deref(), Some("the world wasi:keyvalue/imports"));
    assert_eq!(import(&report, "own").missing, ["own"]);
    // Three imports, and that there is nothing to call.
    assert_eq!(report.problems.len(), 4, "{:?}", report.problems);
}

#[test]
fn proposals_are_those_that_it_would_not_be_valid_without() {
    assert_eq!(report("(module)").proposals, [""; 0]);
    let simd = report("(module (func (drop (v128.const i64x2 0 0))))");
    assert_eq!(simd.proposals, ["simd"]);
    let both = report("(module (memory 1) (memory i64 1 1))");
    assert_eq!(both.proposals, ["multi-memory", "memory64"]);
}

#[test]
fn what_the_engine_does_not_take_is_a_problem() {
    let report = report(r#"(module (func (export "_start")) (memory 1 1 (pagesize 1)))"#);
    assert_eq!(report.proposals, ["custom-page-sizes"]);
    let [problem] = report.problems.as_slice() else { panic!("{:?}", report.problems) };
    assert!(problem.contains("page size"), "{problem}");
    assert_eq!(report.memories[0].minimum, 1);
}

#[test]
fn what_is_not_valid_is_refused() {
    let error = inspect(b"\0asm\x01\0\0\0\x0a", "x").unwrap_err();
    assert!(error.to_string().starts_with("x is not valid WebAssembly"), "{error}");
}
