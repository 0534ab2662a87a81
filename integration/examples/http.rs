//! The servers in Go, JavaScript and Python, by every engine. What a server can do, the trials of
//! `http-rust` show; here it counts that what these toolchains make is served.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use libtest_mimic::Trial;

use crate::harness::command::Cmd;
use crate::harness::container::Container;
use crate::harness::containerd::Generation;
use crate::harness::podman::Pod;
use crate::harness::task::Task;
use crate::harness::{PATIENCE, Result, eventually, images};

/// The image, and the language that its greeting names.
const SERVERS: [(&str, &str); 3] =
    [("http-go", "Go"), ("http-js", "JavaScript"), ("http-python", "Python")];

/// Those with a language's whole runtime in them are compiled for half a minute at first.
const COMPILATION: Duration = Duration::from_secs(300);

pub fn tests() -> Vec<Trial> {
    SERVERS.into_iter().flat_map(|(image, language)| by_each_engine(image, language)).collect()
}

fn by_each_engine(image: &'static str, language: &'static str) -> [Trial; 3] {
    let name = |engine: &str| format!("{}::by_{engine}", image.replace('-', "_"));
    [
        Trial::test(name("runwasm"), move || by_runwasm(image, language)),
        Trial::test(name("podman"), move || by_podman(image, language)),
        Trial::test(name("containerd"), move || by_containerd(image, language)),
    ]
}

/// An address that nobody listens at, as yet.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn listen(address: SocketAddr) -> String {
    format!("runwasm.http.listen={address}")
}

/// The greeting, the container's environment, the request's body and a 404, then twenty at once.
fn answers(address: SocketAddr, language: &str) -> Result {
    eventually("the server to listen", PATIENCE, || {
        Ok(TcpStream::connect(address).is_ok().then_some(()))
    })?;
    let curl = || Cmd::new("curl").args(["-sS", "-m", "30", "-w", "%{http_code}"]);
    let url = |path: &str| format!("http://{address}{path}");
    let hello = format!("hello from {language}\n");
    assert_eq!(curl().arg(url("/")).run()?.success()?.text(), format!("{hello}200"));
    assert_eq!(curl().arg(url("/nosuch")).run()?.success()?.text(), "not found\n404");
    let environment = curl().arg(url("/env")).run()?.success()?;
    assert!(environment.lines().contains(&"A=1".to_owned()), "{environment:?}");
    let body = "0123456789".repeat(30_000);
    let echo = curl().args(["--data-binary", "@-"]).arg(url("/echo")).input(body.clone());
    assert!(echo.run()?.success()?.text() == format!("{body}200"));
    let urls = vec![url("/"); 20];
    let many = curl().args(["--parallel", "--no-progress-meter"]).args(urls).run()?.success()?;
    let count = |text: &str| many.text().matches(text).count();
    assert_eq!((count(&hello), count("200")), (20, 20), "{many:?}");
    Ok(())
}

fn by_runwasm(name: &str, language: &str) -> Result {
    let address = free_address()?;
    let bundle = images::bundle(name, "/server.wasm")?.env(&["A=1"]).without_namespace("network");
    let bundle = bundle.annotation("runwasm.http.listen", &address.to_string());
    let create = bundle.make("create", &[])?.limit(COMPILATION);
    let container = Container::create_by(bundle, create)?;
    container.start()?;
    answers(address, language)?;
    container.wait_for("serving /nosuch\n")?;
    container.kill("TERM")?;
    assert_eq!(container.wait()?, 0, "{}", container.stderr()?);
    container.delete()
}

fn by_podman(name: &str, language: &str) -> Result {
    let address = free_address()?;
    let pod = Pod::new()?;
    let annotation = listen(address);
    let options =
        ["--detach", "--network", "host", "--env", "A=1", "--annotation", annotation.as_str()];
    let run = pod.run_image(&images::load(name)?, &options, &[])?;
    run.limit(COMPILATION).run()?.success()?;
    answers(address, language)?;
    let logs = pod.cmd("logs", &[])?.run()?.success()?;
    assert!(logs.lines().contains(&"serving /nosuch".to_owned()), "{logs:?}");
    pod.cmd("stop", &["--time", "30"])?.run()?.success()?;
    let inspect = pod.cmd("inspect", &["--format", "{{.State.ExitCode}}"])?.run()?.success()?;
    assert_eq!(inspect.text().trim(), "0");
    pod.remove()
}

fn by_containerd(name: &str, language: &str) -> Result {
    let address = free_address()?;
    let server = Generation::V1_7.server()?;
    let task = Task::new(&server, images::bundle(name, "/server.wasm")?);
    let annotation = listen(address);
    let flags = ["--detach", "--net-host", "--env", "A=1", "--annotation", &annotation];
    let run = Task::command(&server, &task.bundle, &flags, &["/server.wasm"]);
    run.limit(COMPILATION).run()?.success()?;
    answers(address, language)?;
    task.kill("SIGTERM")?;
    task.wait_for_status("STOPPED")?;
    assert_eq!(task.delete()?, 0);
    Ok(())
}
