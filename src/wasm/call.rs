//! Calling functions of a core module: which, with what, and what they return.

use std::io::Write;

use wasmtime::{AsContextMut, ExternType, FuncType, Instance, Module, Val, ValType};

/// The function that a WASI command begins with.
const START: &str = "_start";
/// The function that a WASI reactor wants called before any other.
const INITIALIZE: &str = "_initialize";

/// A function to call.
pub struct Call {
    name: String,
    arguments: Vec<Val>,
    /// Whether what it returns goes to standard output.
    prints: bool,
}

/// What to call in `module`: `_start`, or `_initialize`, if there is one, and `export`, as the
/// `wasmtime` command does with `--invoke`. `arguments` are those of the container after the path.
///
/// # Errors
/// When there is no such function, or `arguments` are not what it takes. One without parameters
/// takes any, since it may read them from WASI.
pub fn plan(
    module: &Module,
    export: Option<&str>,
    arguments: &[String],
) -> wasmtime::Result<Vec<Call>> {
    let Some(export) = export else {
        return Ok(vec![bare(module, START)?]);
    };
    let mut calls = Vec::new();
    if module.get_export(INITIALIZE).is_some() {
        calls.push(bare(module, INITIALIZE)?);
    }
    let ty = function(module, export)?;
    let arguments = values(export, &ty, arguments)?;
    if let Some(other) = ty.results().find(|ty| !is_number(ty)) {
        wasmtime::bail!("its function `{export}` returns a value of type {other}, not a number");
    }
    calls.push(Call { name: export.to_owned(), arguments, prints: true });
    Ok(calls)
}

impl Call {
    /// Calls the function and prints the numbers that it returns, each on a line.
    ///
    /// # Errors
    /// The guest's trap or exit, or when standard output takes nothing.
    pub async fn run(
        &self,
        mut store: impl AsContextMut<Data: Send>,
        instance: &Instance,
    ) -> wasmtime::Result<()> {
        let function = instance.get_func(&mut store, &self.name);
        let function = function.ok_or_else(|| wasmtime::format_err!("no `{}`", self.name))?;
        let mut results = vec![Val::I32(0); function.ty(&store).results().len()];
        function.call_async(&mut store, &self.arguments, &mut results).await?;
        if self.prints {
            results.iter().try_for_each(print)?;
        }
        Ok(())
    }
}

fn bare(module: &Module, name: &str) -> wasmtime::Result<Call> {
    if function(module, name)?.params().len() > 0 {
        wasmtime::bail!("its function `{name}` takes parameters, which WASI does not pass");
    }
    Ok(Call { name: name.to_owned(), arguments: Vec::new(), prints: false })
}

fn function(module: &Module, name: &str) -> wasmtime::Result<FuncType> {
    if let Some(ExternType::Func(ty)) = module.get_export(name) {
        return Ok(ty);
    }
    let functions: Vec<_> = module
        .exports()
        .filter(|export| matches!(export.ty(), ExternType::Func(_)))
        .map(|export| export.name())
        .collect();
    let list = if functions.is_empty() { "none".to_owned() } else { functions.join(", ") };
    wasmtime::bail!("it exports no function `{name}`; exported functions: {list}")
}

fn values(name: &str, ty: &FuncType, texts: &[String]) -> wasmtime::Result<Vec<Val>> {
    let params: Vec<_> = ty.params().collect();
    if params.is_empty() {
        return Ok(Vec::new());
    }
    let list: Vec<_> = params.iter().map(ToString::to_string).collect();
    let signature = format!("its function `{name}` takes ({})", list.join(", "));
    if params.len() != texts.len() {
        wasmtime::bail!("{signature}, and process.args has {} after the path", texts.len());
    }
    let value = |(ty, text): (&ValType, &String)| {
        let number = number(ty, text);
        number.ok_or_else(|| wasmtime::format_err!("{signature}, and {text:?} is no {ty}"))
    };
    params.iter().zip(texts).map(value).collect()
}

fn is_number(ty: &ValType) -> bool {
    matches!(ty, ValType::I32 | ValType::I64 | ValType::F32 | ValType::F64)
}

fn number(ty: &ValType, text: &str) -> Option<Val> {
    match ty {
        ValType::I32 => integer(text, 32).map(|bits| Val::I32(bits as i32)),
        ValType::I64 => integer(text, 64).map(|bits| Val::I64(bits as i64)),
        ValType::F32 => text.parse::<f32>().ok().map(Val::from),
        ValType::F64 => text.parse::<f64>().ok().map(Val::from),
        _ => None,
    }
}

/// The bits of an integer, signed or unsigned, decimal or with `0x`.
fn integer(text: &str, bits: u32) -> Option<i128> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let (digits, radix) = hexadecimal.map_or((digits, 10), |digits| (digits, 16));
    // The standard library would take a sign here, too.
    let magnitude = u64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'))?;
    let number = sign * i128::from(magnitude);
    (-(1 << (bits - 1))..1 << bits).contains(&number).then_some(number)
}

fn print(value: &Val) -> wasmtime::Result<()> {
    let mut out = std::io::stdout();
    match value {
        Val::I32(number) => writeln!(out, "{number}"),
        Val::I64(number) => writeln!(out, "{number}"),
        Val::F32(bits) => writeln!(out, "{}", f32::from_bits(*bits)),
        Val::F64(bits) => writeln!(out, "{}", f64::from_bits(*bits)),
        other => writeln!(out, "{other:?}"),
    }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::integer;

    #[test]
    fn integers_are_signed_or_unsigned_and_fit() {
        let read = |text| integer(text, 32).map(|bits| bits as i32);
        assert_eq!(read("7"), Some(7));
        assert_eq!(read("-2147483648"), Some(i32::MIN));
        assert_eq!(read("4294967295"), Some(-1));
        assert_eq!(read("0xffffffff"), Some(-1));
        assert_eq!(integer("18446744073709551615", 64).map(|bits| bits as i64), Some(-1));
        for text in ["", "-", "+1", "--1", "0x", "1.0", "4294967296", "-2147483649", "x", " 1"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
