//! Which proposals to WebAssembly a file uses.

use wasmparser::{Validator, WasmFeatures};

/// Those features of wasmparser's that are not a proposal by themselves.
const NO_PROPOSALS: WasmFeatures =
    WasmFeatures::FLOATS.union(WasmFeatures::GC_TYPES).union(WasmFeatures::COMPONENT_MODEL);

/// The proposals without which `wasm`, which is valid, would not be valid. A group is set aside
/// at once when the file is valid without all of it, so that a large file is read ten times and
/// not forty.
pub fn used(wasm: &[u8]) -> Vec<String> {
    let all: Vec<_> = WasmFeatures::all().difference(NO_PROPOSALS).iter_names().collect();
    let mut used = Vec::new();
    let mut groups = vec![all.as_slice()];
    while let Some(group) = groups.pop() {
        let without = group.iter().fold(WasmFeatures::all(), |set, (_, one)| set.difference(*one));
        if Validator::new_with_features(without).validate_all(wasm).is_ok() {
            continue;
        }
        match group {
            [] => {}
            [(name, _)] => used.push(name.to_lowercase().replace('_', "-")),
            several => {
                let (first, second) = several.split_at(several.len() / 2);
                groups.extend([second, first]);
            }
        }
    }
    used
}
