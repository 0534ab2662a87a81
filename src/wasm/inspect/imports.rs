//! What a file imports, held against what this runtime links.

use std::collections::{HashMap, HashSet};

use wasmparser::component_types::{ComponentAnyTypeId, ComponentEntityType, ResourceId};
use wasmparser::types::{EntityType, Types};
use wasmtime::component::Linker as ComponentLinker;
use wasmtime::{Extern, FuncType, Linker, Store};

use super::worlds::world_of;
use super::{Import, Outline};
use crate::wasm::compile::profile;
use crate::wasm::engine::for_running;
use crate::wasm::module::{ComponentState, CoreState, component_linker, module_linker};

/// WASI gives an interface a new patch release now and then; there is none with a higher number.
const PATCHES: u64 = 64;

/// Each import of a valid file, and what satisfies it.
pub fn resolve(wasm: &[u8], types: &Types, outline: &Outline) -> wasmtime::Result<Vec<Import>> {
    let engine = for_running(profile(wasm), true)?;
    let names: Vec<&str> = outline.imports.iter().map(String::as_str).collect();
    if outline.component {
        let linker = component_linker(&engine, &names)?;
        let mut offer = Offer { linker, answers: HashMap::new(), resources: HashSet::new() };
        return Ok(names.iter().map(|name| component_import(&mut offer, types, name)).collect());
    }
    let linker = module_linker(&engine, &names)?;
    let mut store = Store::new(&engine, CoreState::default());
    Ok(names.iter().map(|name| core_import(&linker, &mut store, types, name)).collect())
}

fn core_import(
    linker: &Linker<CoreState>,
    store: &mut Store<CoreState>,
    types: &Types,
    module: &str,
) -> Import {
    let imports = types.as_ref().core_imports().into_iter().flatten();
    let (mut items, mut missing, mut world) = (Vec::new(), Vec::new(), None);
    for (_, item, ty) in imports.filter(|(from, ..)| *from == module) {
        items.push(item.to_owned());
        let problem = match (linker.get(&mut *store, module, item), ty) {
            (Ok(Extern::Func(function)), EntityType::Func(id) | EntityType::FuncExact(id)) => {
                let wanted = types[id].unwrap_func().to_string();
                let offered = describe(&function.ty(&*store));
                (wanted != offered).then(|| format!("{item} (imported as {wanted}, is {offered})"))
            }
            // It is made for the module, which names its size.
            (_, EntityType::Memory(memory)) if memory.shared => None,
            _ => Some(item.to_owned()),
        };
        if let Some(problem) = problem {
            world.get_or_insert_with(|| world_of(module, item, false));
            missing.push(problem);
        }
    }
    let provider = (missing.len() < items.len()).then(|| module.to_owned());
    Import { name: module.to_owned(), items, provider, missing, world }
}

/// A type in the words of wasmparser.
fn describe(ty: &FuncType) -> String {
    let list = |types: Vec<String>, word: &str| match types.as_slice() {
        [] => String::new(),
        types => format!(" ({word} {})", types.join(" ")),
    };
    let params = list(ty.params().map(|ty| ty.to_string()).collect(), "param");
    let results = list(ty.results().map(|ty| ty.to_string()).collect(), "result");
    format!("(func{params}{results})")
}

fn component_import(offer: &mut Offer, types: &Types, name: &str) -> Import {
    let types = types.as_ref();
    let Some(ComponentEntityType::Instance(instance)) =
        types.component_item_for_import(name).map(|item| item.ty)
    else {
        // Nothing is linked at the top: a function there is of the guest's own world.
        let (items, world) = (vec![name.to_owned()], Some(world_of(name, name, true)));
        let missing = items.clone();
        return Import { name: name.to_owned(), items, provider: None, missing, world };
    };
    let exports = types[instance].exports.iter();
    let items: Vec<String> = exports
        .filter(|(_, item)| match item.ty {
            ComponentEntityType::Func(_) => true,
            ComponentEntityType::Type {
                created: ComponentAnyTypeId::Resource(resource), ..
            } => offer.resources.insert(resource.resource()),
            _ => false,
        })
        .map(|(item, _)| item.clone())
        .collect();
    let provider = offer.stands_in_for(name, &items);
    let missing: Vec<_> = match &provider {
        Some(provider) => items.iter().filter(|item| !offer.has(provider, item)).cloned().collect(),
        None => items.clone(),
    };
    let world = (!missing.is_empty()).then(|| world_of(name, name, true));
    Import { name: name.to_owned(), items, provider, missing, world }
}

/// What components are offered. A linker cannot be asked what it has, but it refuses to define
/// what is defined. So what was not is defined after the question, as a function that is never
/// called, and the answer is kept.
struct Offer {
    linker: ComponentLinker<ComponentState>,
    answers: HashMap<(String, String), bool>,
    /// The resources of the imports so far. Where one appears again it is an alias, which needs
    /// nothing.
    resources: HashSet<ResourceId>,
}

impl Offer {
    fn has(&mut self, interface: &str, item: &str) -> bool {
        let linker = &mut self.linker;
        *self.answers.entry((interface.to_owned(), item.to_owned())).or_insert_with(|| {
            let Ok(mut instance) = linker.instance(interface) else { return false };
            instance.func_new(item, |_, _, _, _| wasmtime::bail!("only a name")).is_err()
        })
    }

    /// The interface that is linked for `name`: itself, or the one whose version is compatible,
    /// as wasmtime chooses it.
    fn stands_in_for(&mut self, name: &str, items: &[String]) -> Option<String> {
        let mut has_any = |name: &String| items.iter().any(|item| self.has(name, item));
        let exact = name.to_owned();
        if has_any(&exact) {
            return Some(exact);
        }
        let (track, patch) = name.rsplit_once('.')?;
        patch.parse::<u64>().ok()?;
        (0..PATCHES).rev().map(|patch| format!("{track}.{patch}")).find(has_any)
    }
}
