//! The attributes and the derive of `millstream-sdk`; use them from there.

mod aggregate;
mod function;
mod migrate;
mod process;
mod row;

use proc_macro::TokenStream;

/// Makes a struct a row: its fields are the columns that an operator reads or produces.
///
/// Fields may be `bool`, `i64`, `f64`, `String`, `&'a str`, `Vec<u8>`, `&'a [u8]`, `Timestamp`, `Packed<T>`, and an
/// `Option` of these for a column with nulls. `#[column(name = "..")]` names the column where the field's name cannot.
/// A row with a `&'static str` is for results only: it cannot be read from a batch.
#[proc_macro_derive(Row, attributes(column))]
pub fn derive_row(input: TokenStream) -> TokenStream {
    finish(syn::parse(input).and_then(|input| row::derive(&input)))
}

/// Makes a function from a row to a row an operator: one row out for each row in.
#[proc_macro_attribute]
pub fn map(arguments: TokenStream, item: TokenStream) -> TokenStream {
    function(function::Kind::Map, arguments, item)
}

/// Makes a function from a row to `bool` an operator: rows for which it answers `false` are dropped.
#[proc_macro_attribute]
pub fn filter(arguments: TokenStream, item: TokenStream) -> TokenStream {
    function(function::Kind::Filter, arguments, item)
}

/// Makes a function from a row to a `Vec` or iterator of rows an operator: any number of rows out for each row in.
#[proc_macro_attribute]
pub fn flat_map(arguments: TokenStream, item: TokenStream) -> TokenStream {
    function(function::Kind::FlatMap, arguments, item)
}

/// Makes a function from a `WindowRows<In>` to a `Vec` or iterator of rows an operator: it is handed all rows of a window and
/// key when the window fires, and any number of rows come out, beside the window's key and bounds.
#[proc_macro_attribute]
pub fn window_process(arguments: TokenStream, item: TokenStream) -> TokenStream {
    function(function::Kind::WindowProcess, arguments, item)
}

/// Makes a function from a row and the number of tasks to `u32` an operator: the number of the task that gets the row.
#[proc_macro_attribute]
pub fn partition(arguments: TokenStream, item: TokenStream) -> TokenStream {
    function(function::Kind::Partition, arguments, item)
}

/// Makes an implementation of `Aggregate` an operator.
///
/// `#[aggregate(version = 2)]` is raised whenever the accumulator's fields or their meaning change; it starts at 1.
/// `migrate(1 = OldState)` beside it takes over what version 1 kept, row by row, by `TryFrom<OldState>` (or `From`) of the
/// accumulator: see the module `migrate`.
/// `#[aggregate(config)]` reads the type itself from the step's configuration instead of `Default`.
#[proc_macro_attribute]
pub fn aggregate(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = proc_macro2::TokenStream::from(item);
    finish_or_keep(aggregate::expand(arguments.into(), item.clone()), item)
}

/// Makes an implementation of `Process` an operator.
///
/// `#[process(version = 2)]` is raised whenever the state's fields or their meaning change; it starts at 1.
/// `migrate(1 = OldState)` beside it takes over what version 1 kept, row by row, by `TryFrom<OldState>` (or `From`) of the
/// state: see the module `migrate`.
/// `#[process(config)]` reads the type itself from the step's configuration instead of `Default`.
/// `#[process(sides(ALERTS))]` names the operator's further outputs, which are constants of type `Side`.
#[proc_macro_attribute]
pub fn process(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = proc_macro2::TokenStream::from(item);
    finish_or_keep(process::expand(arguments.into(), item.clone()), item)
}

fn function(kind: function::Kind, arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = proc_macro2::TokenStream::from(item);
    finish_or_keep(function::expand(kind, &arguments.into(), item.clone()), item)
}

fn finish(result: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    result.unwrap_or_else(|error| error.to_compile_error()).into()
}

/// The item stays where the attribute is refused, so that its uses do not add errors of their own.
fn finish_or_keep(result: syn::Result<proc_macro2::TokenStream>, item: proc_macro2::TokenStream) -> TokenStream {
    let tokens = result.unwrap_or_else(|error| {
        let error = error.to_compile_error();
        quote::quote! { #error #item }
    });
    tokens.into()
}
