//! Every row of the decision table, each crun rule, and the traps of finding an entrypoint.

use std::os::unix::fs::symlink;

use super::*;
use oci_spec::runtime::ProcessBuilder;

const MODULE: &[u8] = b"\0asm\x01\0\0\0";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const ELF: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0";
const PRECOMPILED: &[u8] = b"\x7fELF\x02\x01\x01\xc8\0\0\0\0";

/// A root file system in a temporary directory, and a spec to decide on.
struct Case {
    dir: tempfile::TempDir,
    spec: Spec,
}

impl Case {
    fn new(args: &[&str]) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), spec: Spec::default() }.process(
            args,
            "/",
            &["PATH=/usr/bin:/bin"],
        )
    }

    fn process(mut self, args: &[&str], cwd: &str, env: &[&str]) -> Self {
        let own = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
        let process = ProcessBuilder::default().args(own(args)).env(own(env)).cwd(cwd);
        self.spec.set_process(Some(process.build().unwrap()));
        self
    }

    fn file(self, path: &str, content: &[u8]) -> Self {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    fn link(self, path: &str, target: &str) -> Self {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
        self
    }

    fn annotation(mut self, key: &str, value: &str) -> Self {
        let mut annotations = self.spec.annotations().clone().unwrap_or_default();
        annotations.insert(key.to_owned(), value.to_owned());
        self.spec.set_annotations(Some(annotations));
        self
    }

    fn decide(&self) -> Result<Decision> {
        decide(&self.spec, &Rootfs::open(self.dir.path(), &[]).unwrap(), &|_| Ok(None))
    }

    fn wasm(&self) -> WasmFile {
        match self.decide().unwrap().workload {
            Workload::Wasm(file) => file,
            Workload::Linux => panic!("Linux: {}", self.decide().unwrap().reason),
        }
    }

    fn assert_linux(&self) {
        let decision = self.decide().unwrap();
        assert!(matches!(decision.workload, Workload::Linux), "{decision:?}");
    }

    fn error(&self) -> String {
        self.decide().unwrap_err().to_string()
    }
}

fn hello() -> Case {
    Case::new(&["/hello.wasm"]).file("hello.wasm", MODULE)
}

#[test]
fn row_1_a_sandbox_is_linux_whatever_else_is_said() {
    hello().annotation(CRI_CONTAINER_TYPE, "sandbox").annotation(HANDLER, "wasm").assert_linux();
    let container = hello().annotation(CRI_CONTAINER_TYPE, "container");
    assert_eq!(container.wasm().format, Format::Module);
}

#[test]
fn row_2_a_wasm_handler_runs_wasm_files_as_wasm_and_the_rest_as_linux() {
    for handler in ["wasm", "wasm-smart", "wasmtime"] {
        let case = hello().annotation(HANDLER, handler);
        assert_eq!(case.wasm().path, Path::new("/hello.wasm"));
        assert!(case.decide().unwrap().reason.contains(handler));
        Case::new(&["/bin/sh"]).file("bin/sh", ELF).annotation(HANDLER, handler).assert_linux();
    }
}

#[test]
fn row_3_an_unknown_handler_is_an_error_that_names_it() {
    for handler in ["wasmedge", "krun", "", "WASM"] {
        let error = hello().annotation(HANDLER, handler).error();
        assert!(error.contains(HANDLER) && error.contains(&format!("{handler:?}")), "{error}");
    }
    // crun: run.oci.handler hides the variant.
    assert!(hello().annotation(HANDLER, "x").annotation(VARIANT, "compat").decide().is_err());
}

#[test]
fn row_4_compat_runs_wasm_files_as_wasm_and_a_sidecar_as_linux() {
    for variant in ["compat", "compat-smart"] {
        let decision = hello().annotation(VARIANT, variant).decide().unwrap();
        assert!(decision.reason.contains(variant), "{}", decision.reason);
        Case::new(&["/bin/sh"]).file("bin/sh", ELF).annotation(VARIANT, variant).assert_linux();
        Case::new(&["/missing"]).annotation(VARIANT, variant).assert_linux();
    }
}

#[test]
fn row_5_without_annotation_the_file_decides() {
    assert_eq!(hello().wasm().format, Format::Module);
    let component = Case::new(&["/app"]).file("app", COMPONENT);
    assert_eq!(component.wasm().format, Format::Component);
    let text = Case::new(&["/app.wat"]).file("app.wat", b"(module)");
    assert_eq!(text.wasm().format, Format::Text);
    // An unknown variant is no annotation of ours.
    assert_eq!(hello().annotation(VARIANT, "other").wasm().format, Format::Module);
}

#[test]
fn row_7_everything_else_is_linux() {
    Case::new(&["/bin/sh"]).file("bin/sh", ELF).assert_linux();
    Case::new(&["/run"]).file("run", b"#!/bin/sh\n").assert_linux();
    Case::new(&["/x.wasm"]).file("x.wasm", b"text").assert_linux();
    Case::new(&["/x"]).file("x", b"(module)").assert_linux();
    Case::new(&["/dir"]).file("dir/x", MODULE).assert_linux();
}

#[test]
fn a_wasm_name_with_other_content_is_an_error_that_says_what_it_is() {
    let cases: [(&[u8], &str); 7] = [
        (ELF, "an ELF file"),
        (b"hello", "plain text"),
        (b"\x80\x81\x82", "neither WebAssembly"),
        (b"", "empty"),
        (b"\0as", "truncated"),
        (b"#!/bin/sh", "a #! script"),
        (PRECOMPILED, "precompiled"),
    ];
    for (content, what) in cases {
        for (key, value) in [(HANDLER, "wasm"), (VARIANT, "compat")] {
            let case = Case::new(&["/x.wasm"]).file("x.wasm", content).annotation(key, value);
            let error = case.error();
            assert!(error.contains("/x.wasm") && error.contains(what), "{error}");
        }
    }
    let wat = Case::new(&["/x.wat"]).file("x.wat", b"(modul").annotation(VARIANT, "compat");
    assert!(wat.error().contains("/x.wat"));
}

#[test]
fn a_truncated_module_is_still_wasm_so_that_create_can_say_so() {
    assert_eq!(Case::new(&["/x.wasm"]).file("x.wasm", b"\0asm").wasm().format, Format::Malformed);
    let version = Case::new(&["/x"]).file("x", b"\0asm\x07\0\0\0");
    assert_eq!(version.wasm().format, Format::Malformed);
}

#[test]
fn precompiled_code_is_refused_without_any_annotation_too() {
    let error = Case::new(&["/x"]).file("x", PRECOMPILED).error();
    assert!(error.contains("not accepted from images"), "{error}");
}

#[test]
fn a_bare_name_is_looked_up_in_the_containers_path() {
    let case = Case::new(&["app"]).file("bin/app", MODULE);
    assert_eq!(case.wasm().path, Path::new("/bin/app"));
    // The first hit wins, but a file that can be neither executed nor run as wasm is none.
    let case = Case::new(&["app"]).file("usr/bin/app", b"text").file("bin/app", MODULE);
    assert_eq!(case.wasm().path, Path::new("/bin/app"));
    // Without PATH there is no look-up; `x.wasm` is then a file of the working directory.
    Case::new(&[]).process(&["app"], "/bin", &[]).file("bin/app", MODULE).assert_linux();
    let case = Case::new(&[]).process(&["app.wasm"], "/d", &[]).file("d/app.wasm", MODULE);
    assert_eq!(case.wasm().path, Path::new("/d/app.wasm"));
}

#[test]
fn a_relative_path_starts_at_the_working_directory() {
    let case = Case::new(&[]).process(&["./app.wasm"], "/d", &[]).file("d/app.wasm", MODULE);
    assert_eq!(case.wasm().path, Path::new("/d/app.wasm"));
    let case = Case::new(&[]).process(&["../e/x"], "/d", &[]).file("e/x", MODULE);
    assert_eq!(case.wasm().path, Path::new("/e/x"));
}

#[test]
fn symlinks_resolve_inside_the_root_file_system() {
    let case = Case::new(&["/app"]).file("real/x.wasm", MODULE).link("app", "real/x.wasm");
    assert_eq!(case.wasm().format, Format::Module);
    let case = Case::new(&["/app"]).file("real/x.wasm", MODULE).link("app", "/real/x.wasm");
    assert_eq!(case.wasm().format, Format::Module);
    let case = Case::new(&["/a/x"]).file("real/x", MODULE).link("a", "../../../real");
    assert_eq!(case.wasm().format, Format::Module);
    Case::new(&["/loop"]).link("loop", "loop").assert_linux();
}

#[test]
fn an_entrypoint_that_leaves_the_root_file_system_is_not_followed() {
    let outside = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(outside.path(), MODULE).unwrap();
    let path = outside.path().to_str().unwrap();
    Case::new(&[path]).assert_linux();
    Case::new(&["/app"]).link("app", path).assert_linux();
    Case::new(&[&format!("/../../..{path}")]).assert_linux();
}

#[test]
fn a_suffix_names_an_export_unless_a_file_has_that_name() {
    let case = Case::new(&["/x.wasm#Check"]).file("x.wasm", MODULE);
    assert_eq!(case.wasm().export.as_deref(), Some("Check"));
    let case = Case::new(&["/x#y"]).file("x#y", MODULE).file("x", MODULE);
    assert_eq!(case.wasm().export, None);
    let case = Case::new(&["/x.wasm#"]).file("x.wasm", MODULE);
    case.assert_linux();
}

#[test]
fn an_entrypoint_in_a_bind_mount_is_found_at_its_source() {
    let volume = tempfile::tempdir().unwrap();
    std::fs::create_dir(volume.path().join("v1")).unwrap();
    std::fs::write(volume.path().join("v1/app.wasm"), MODULE).unwrap();
    // The layout of a Kubernetes configmap: the file is a link through a link.
    symlink("v1", volume.path().join("..data")).unwrap();
    symlink("..data/app.wasm", volume.path().join("app.wasm")).unwrap();
    let mount = |destination: &str, source: &Path| {
        oci_spec::runtime::MountBuilder::default()
            .destination(destination)
            .typ("bind")
            .source(source)
            .build()
            .unwrap()
    };
    let case = Case::new(&["/cfg/app.wasm"]).file("cfg/app.wasm", ELF);
    let mounts = [mount("/cfg", volume.path()), mount("/one", &volume.path().join("v1/app.wasm"))];
    let rootfs = Rootfs::open(case.dir.path(), &mounts).unwrap();
    assert!(matches!(
        decide(&case.spec, &rootfs, &|_| Ok(None)).unwrap().workload,
        Workload::Wasm(_)
    ));
    let single = Case::new(&["/one"]);
    assert!(matches!(
        decide(&single.spec, &rootfs, &|_| Ok(None)).unwrap().workload,
        Workload::Wasm(_)
    ));
}

#[test]
fn paths_are_followed_as_the_kernel_follows_them() {
    // `..` after a symlink leaves the link's target, not its name.
    let case = Case::new(&["/bin/../app/a"])
        .file("usr/app/a", b"#!/bin/sh")
        .file("usr/bin/x", ELF)
        .file("app/a", MODULE)
        .link("bin", "usr/bin");
    case.assert_linux();
    // A link in the root leads into a volume, and one in a volume back.
    let volume = tempfile::tempdir().unwrap();
    std::fs::write(volume.path().join("h.wasm"), MODULE).unwrap();
    symlink("/hello.wasm", volume.path().join("back.wasm")).unwrap();
    let mount = |typ: &str, destination: &str| {
        let builder = oci_spec::runtime::MountBuilder::default();
        builder.typ(typ).destination(destination).source(volume.path()).build().unwrap()
    };
    let decide_with = |case: &Case, mounts: &[oci_spec::runtime::Mount]| {
        let rootfs = Rootfs::open(case.dir.path(), mounts).unwrap();
        matches!(decide(&case.spec, &rootfs, &|_| Ok(None)).unwrap().workload, Workload::Wasm(_))
    };
    let into = Case::new(&["/app.wasm"]).link("app.wasm", "/vol/h.wasm").file("vol/x", b"");
    assert!(decide_with(&into, &[mount("bind", "/vol")]));
    let back = Case::new(&["/vol/back.wasm"]).file("hello.wasm", MODULE).file("vol/x", b"");
    assert!(decide_with(&back, &[mount("bind", "/vol")]));
    let linked = Case::new(&["/real/x/h.wasm"]).file("real/y", b"").link("link", "/real");
    assert!(decide_with(&linked, &[mount("bind", "/link/x")]));
    // What a tmpfs covers is not there.
    let covered = Case::new(&["/app/h.wasm"]).file("app/h.wasm", MODULE);
    assert!(!decide_with(&covered, &[mount("tmpfs", "/app")]));
}

/// Row 6, and that every other row comes before it.
#[test]
fn an_artifact_stands_in_for_a_file_that_is_missing() {
    let layers = tempfile::tempdir().unwrap();
    let layer = layers.path().join("layer");
    let decide_with = |case: &Case, content: &[u8]| {
        std::fs::write(&layer, content).unwrap();
        let artifact = |program: &str| {
            Ok((program == "app.wasm").then(|| (program.into(), File::open(&layer).unwrap())))
        };
        let rootfs = Rootfs::open(case.dir.path(), &[]).unwrap();
        decide(&case.spec, &rootfs, &artifact)
    };
    let decision = decide_with(&Case::new(&["app.wasm#main"]), MODULE).unwrap();
    assert!(decision.reason.contains("of a wasm artifact"), "{}", decision.reason);
    let Workload::Wasm(file) = decision.workload else { panic!("not wasm") };
    assert_eq!((file.format, file.export.as_deref()), (Format::Module, Some("main")));
    let there = Case::new(&["app.wasm"]).file("app.wasm", COMPONENT);
    let Workload::Wasm(file) = decide_with(&there, MODULE).unwrap().workload else { panic!() };
    assert_eq!(file.format, Format::Component);
    let error = decide_with(&Case::new(&["app.wasm"]), ELF).unwrap_err().to_string();
    assert!(error.contains("a wasm layer of the image, is an ELF file"), "{error}");
    let other = decide_with(&Case::new(&["other"]), MODULE).unwrap();
    assert!(matches!(other.workload, Workload::Linux));
}

/// Istio's images: one file, and no entrypoint.
#[test]
fn the_root_directory_as_a_program_means_its_plugin() {
    let case = Case::new(&["/"]).file("plugin.wasm", MODULE);
    assert_eq!(case.wasm().path, Path::new("/plugin.wasm"));
    Case::new(&["/"]).file("other.wasm", MODULE).assert_linux();
}
