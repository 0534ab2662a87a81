//! Functions called by name: `app.wasm#function`.

use libtest_mimic::Trial;

use crate::harness::bundle::Bundle;
use crate::harness::command::Output;
use crate::harness::container::Container;
use crate::harness::guests::{Guest, PROBE};
use crate::harness::{Result, trials};

pub fn tests() -> Vec<Trial> {
    trials!["wasm": exports_in_each_language, exports_return_several_numbers,
        exports_see_the_containers_view, exports_and_arguments_that_do_not_fit,
        exec_of_an_export]
}

const LANGUAGES: [Guest; 3] =
    [Guest::RustLibrary("exports"), Guest::CLibrary("exports"), Guest::GoLibrary("exports")];
const WAT: Guest = Guest::Wat("exports");

fn call(guest: &Guest, function: &str, args: &[&str]) -> Result<Output> {
    let program = format!("/lib.wasm#{function}");
    let bundle = Bundle::empty(&[&[program.as_str()], args].concat())?;
    bundle.file("/lib.wasm", &guest.bytes()?)?.env(&["NAME=world"]).run()
}

fn exports_in_each_language() -> Result {
    for guest in LANGUAGES {
        for (function, args, printed) in [
            ("add", &["2", "-5"][..], "-3\n"),
            ("add", &["0x7fffffff", "1"], "-2147483648\n"),
            ("twice", &["4611686018427387903"], "9223372036854775806\n"),
            ("half", &["-3"], "-1.5\n"),
            ("scale", &["0.5", "9"], "4.5\n"),
        ] {
            let output = call(&guest, function, args)?.success()?;
            assert_eq!(output.text(), printed, "{guest:?} {function} {args:?}");
            assert_eq!(output.stderr, "", "{guest:?} {function} {args:?}");
        }
    }
    Ok(())
}

fn exports_return_several_numbers() -> Result {
    assert_eq!(call(&WAT, "pair", &["7", "inf"])?.success()?.text(), "inf\n7\n");
    assert_eq!(call(&WAT, "none", &[])?.success()?.text(), "");
    Ok(())
}

/// One without parameters may find its arguments by itself.
fn exports_see_the_containers_view() -> Result {
    for guest in LANGUAGES {
        let text = call(&guest, "greet", &["a", "b c"])?.success()?.text();
        let expected =
            if guest == Guest::CLibrary("exports") { "hello world" } else { "hello world a b c" };
        assert_eq!(text.trim_end(), expected, "{guest:?}");
    }
    Ok(())
}

fn exports_and_arguments_that_do_not_fit() -> Result {
    let refused = |function: &str, args: &[&str], reason: &str| -> Result {
        call(&WAT, function, args)?.refused(reason)?;
        Ok(())
    };
    let takes = "its function `pair` takes (i32, f64), and";
    refused("pair", &["1"], &format!("{takes} process.args has 1 after the path"))?;
    refused("pair", &["1", "2", "3"], &format!("{takes} process.args has 3 after the path"))?;
    refused("pair", &["1.5", "2"], &format!("{takes} \"1.5\" is no i32"))?;
    refused("pair", &["4294967296", "2"], "\"4294967296\" is no i32")?;
    refused("pair", &["1", "two"], "\"two\" is no f64")?;
    refused("takes_vector", &["1"], "takes (v128), and \"1\" is no v128")?;
    refused("vector", &[], "its function `vector` returns a value of type v128")?;
    refused("memory", &[], "no function `memory`; exported functions: _start, none, pair")?;
    for guest in LANGUAGES {
        let output = call(&guest, "nosuch", &[])?.refused("exports no function `nosuch`")?;
        for name in ["add", "twice", "half", "scale", "greet"] {
            assert!(output.stderr.contains(name), "{guest:?}: {}", output.stderr);
        }
    }
    Ok(())
}

fn exec_of_an_export() -> Result {
    let bundle = Bundle::wasm(&PROBE, &["/probe.wasm", "sleep"])?;
    let container = Container::start_new(bundle.file("/lib.wasm", &WAT.bytes()?)?)?;
    container.wait_for("ready")?;
    let output = container.exec(&["/lib.wasm#pair", "1", "2"]).run()?.success()?;
    assert_eq!(output.text(), "2\n1\n");
    container.exec(&["/lib.wasm#pair", "1"]).run()?.refused("takes (i32, f64)")?;
    container.finish()
}
