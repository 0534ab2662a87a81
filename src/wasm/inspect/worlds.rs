//! Who provides what this runtime does not: for messages only.

/// Packages of WASI, with the world that has all that they define for a guest to import.
const WORLDS: [(&str, &str); 11] = [
    ("wasi:blobstore/", "wasi:blobstore/imports"),
    ("wasi:cli/", "wasi:cli/imports"),
    ("wasi:config/", "wasi:config/imports"),
    ("wasi:http/", "wasi:http/proxy"),
    ("wasi:keyvalue/", "wasi:keyvalue/imports"),
    ("wasi:logging/", "wasi:logging/imports"),
    ("wasi:messaging/", "wasi:messaging/imports-request-reply"),
    ("wasi:nn/", "wasi:nn/ml"),
    ("wasi:sockets/", "wasi:sockets/imports"),
    ("wasi:tls/", "wasi:tls/imports"),
    ("wasi:webgpu/", "wasi:webgpu/imports"),
];

/// The names from which core modules import, with the hosts that have them.
const HOSTS: [(&str, &str); 10] = [
    ("wasi_snapshot_preview1", "an extension of WASI 0.1, as WasmEdge has for sockets"),
    ("wasi_unstable", "an extension of WASI 0.1's predecessor"),
    ("wasi_ephemeral_nn", "wasi-nn for core modules"),
    ("wasi", "wasi-threads"),
    ("wasix_32v1", "WASIX, of Wasmer"),
    ("gojs", "JavaScript, for Go programs; build it with GOOS=wasip1"),
    ("go", "JavaScript, for Go programs; build it with GOOS=wasip1"),
    ("wbg", "JavaScript, for wasm-bindgen"),
    ("__wbindgen_placeholder__", "JavaScript, for wasm-bindgen"),
    ("GOT.mem", "a dynamic linker"),
];

/// The world or host that has `item` of the module or interface `name`.
pub fn world_of(name: &str, item: &str, component: bool) -> String {
    if let Some((_, world)) = WORLDS.iter().find(|(prefix, _)| name.starts_with(prefix)) {
        return format!("the world {world}");
    }
    if component {
        return match name.split_once('/') {
            Some((package, _)) => format!("a world of the package {package}"),
            None => "the component's own world".to_owned(),
        };
    }
    if item.starts_with("proxy_") {
        return "the Proxy-Wasm ABI, for plugins of Envoy and Istio".to_owned();
    }
    if name.starts_with("cm32p2") || name.contains(':') {
        return "the component model; make a component of it with `wasm-tools component new`"
            .to_owned();
    }
    match HOSTS.iter().find(|(module, _)| *module == name) {
        Some((_, host)) => (*host).to_owned(),
        None => "a host made for it".to_owned(),
    }
}
