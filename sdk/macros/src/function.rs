//! `#[map]`, `#[filter]`, `#[flat_map]`, `#[window_process]` and `#[partition]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::spanned::Spanned;
use syn::{Error, FnArg, GenericParam, ItemFn, Result, ReturnType, Type};

/// Which attribute.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Map,
    Filter,
    FlatMap,
    WindowProcess,
    Partition,
}

impl Kind {
    fn attribute(self) -> &'static str {
        match self {
            Kind::Map => "map",
            Kind::Filter => "filter",
            Kind::FlatMap => "flat_map",
            Kind::WindowProcess => "window_process",
            Kind::Partition => "partition",
        }
    }

    fn shape(self) -> &'static str {
        match self {
            Kind::Map => "fn name(row: In) -> Out",
            Kind::Filter => "fn name(row: In) -> bool",
            Kind::FlatMap => "fn name(row: In) -> impl Iterator<Item = Out>",
            Kind::WindowProcess => "fn name(window: WindowRows<In>) -> impl Iterator<Item = Out>",
            Kind::Partition => "fn name(row: In, targets: u32) -> u32",
        }
    }

    /// Parameters before the configuration.
    fn parameters(self) -> usize {
        if self == Kind::Partition { 2 } else { 1 }
    }
}

pub(crate) fn expand(kind: Kind, arguments: &TokenStream, item: TokenStream) -> Result<TokenStream> {
    if !arguments.is_empty() {
        return Err(Error::new(arguments.span(), format!("#[{}] takes no arguments", kind.attribute())));
    }
    let Ok(function) = syn::parse2::<ItemFn>(item.clone()) else {
        return Err(Error::new(item.span(), format!("#[{}] goes on a function: {}", kind.attribute(), kind.shape())));
    };
    check(kind, &function)?;
    let operator = operator(kind, &function)?;
    Ok(quote! { #function #operator })
}

fn check(kind: Kind, function: &ItemFn) -> Result<()> {
    let signature = &function.sig;
    let refuse = |span, what: &str| Err(Error::new(span, format!("{what}; expected {}", kind.shape())));
    if let Some(token) = signature.asyncness {
        return refuse(token.span(), "an operator cannot be async: it computes and nothing else");
    }
    if let Some(parameter) =
        signature.generics.params.iter().find(|parameter| !matches!(parameter, GenericParam::Lifetime(_)))
    {
        return refuse(parameter.span(), "an operator cannot be generic: its rows are the columns that it declares");
    }
    let parameters = kind.parameters();
    if kind == Kind::Partition && !(parameters..=parameters + 1).contains(&signature.inputs.len()) {
        let what = "a partitioner takes a row, the number of tasks, and its configuration if it has one";
        return refuse(signature.paren_token.span.join(), what);
    }
    if kind != Kind::Partition && !(1..=2).contains(&signature.inputs.len()) {
        return refuse(
            signature.paren_token.span.join(),
            "an operator takes a row, and its configuration if it has one",
        );
    }
    if let Some(receiver) = signature.receiver() {
        return refuse(receiver.span(), "an operator is a function, not a method");
    }
    if matches!(signature.output, ReturnType::Default) {
        return refuse(signature.ident.span(), "the function answers nothing");
    }
    let columns = over_columns(function);
    if columns && matches!(kind, Kind::FlatMap | Kind::WindowProcess | Kind::Partition) {
        return refuse(signature.inputs.span(), &format!("a {} works on rows", kind.attribute()));
    }
    if !columns
        && let Some(FnArg::Typed(row)) = signature.inputs.first()
        && matches!(&*row.ty, Type::Reference(_))
    {
        return refuse(row.ty.span(), "the row is passed by value");
    }
    Ok(())
}

/// Whether the function takes `Columns<Row>`.
fn over_columns(function: &ItemFn) -> bool {
    let Some(FnArg::Typed(first)) = function.sig.inputs.first() else { return false };
    last_segment(&first.ty).is_some_and(|name| name == "Columns")
}

fn last_segment(kind: &Type) -> Option<&syn::Ident> {
    match kind {
        Type::Path(path) => path.path.segments.last().map(|segment| &segment.ident),
        _ => None,
    }
}

/// Whether the function answers a `Result`.
fn is_fallible(function: &ItemFn) -> bool {
    match &function.sig.output {
        ReturnType::Type(_, kind) => last_segment(kind).is_some_and(|name| name == "Result"),
        ReturnType::Default => false,
    }
}

/// The type of the last parameter, without its `&`.
fn configuration(kind: Kind, function: &ItemFn) -> Result<Option<&Type>> {
    match function.sig.inputs.iter().nth(kind.parameters()) {
        None => Ok(None),
        Some(FnArg::Typed(second)) => match &*second.ty {
            Type::Reference(reference) if reference.mutability.is_none() => Ok(Some(&reference.elem)),
            other => Err(Error::new(
                other.span(),
                "the last parameter is the configuration, by shared reference: `config: &Config`",
            )),
        },
        Some(other) => Err(Error::new(other.span(), "an operator is a function, not a method")),
    }
}

/// The type of the function's name that implements the operator's trait, and for wasm32 its export.
fn operator(kind: Kind, function: &ItemFn) -> Result<TokenStream> {
    let name = &function.sig.ident;
    let visibility = &function.vis;
    let configuration = configuration(kind, function)?;
    let columns = over_columns(function);

    let targets = (kind == Kind::Partition).then(|| quote!(targets,));
    let called =
        if configuration.is_some() { quote!(#name(row, #targets config)) } else { quote!(#name(row, #targets)) };
    let answer = if is_fallible(function) {
        called
    } else {
        quote!(::std::result::Result::<_, ::std::convert::Infallible>::Ok(#called))
    };
    let (instance, configure) = match configuration {
        Some(kind) => (quote!(#kind), quote!(settings.read())),
        None => (
            quote!(()),
            quote!({
                let _ = settings;
                ::std::result::Result::Ok(())
            }),
        ),
    };
    let closure = quote!(|row, #targets config: &#instance| { let _ = config; #answer });

    let suffix = if columns { "_columns" } else { "" };
    let drive = format_ident!("{}{}", kind.attribute(), suffix);
    let signature = format_ident!("{}{}_signature", kind.attribute(), suffix);
    let input = if columns || kind == Kind::WindowProcess { quote!(input) } else { quote!(&input) };
    let taken = if kind == Kind::WindowProcess {
        quote!(&::millstream_sdk::WindowCall)
    } else {
        quote!(::millstream_sdk::Batch)
    };
    let (operator, method, output) = match kind {
        Kind::Map => (quote!(MapOperator), quote!(transform), quote!(::millstream_sdk::Batch)),
        Kind::Filter => (quote!(FilterOperator), quote!(select), quote!(::std::vec::Vec<u8>)),
        Kind::FlatMap => (quote!(FlatMapOperator), quote!(expand), quote!(::millstream_sdk::Expansion)),
        Kind::WindowProcess => (quote!(WindowProcessOperator), quote!(process), quote!(::millstream_sdk::Expansion)),
        Kind::Partition => (quote!(PartitionOperator), quote!(route), quote!(::std::vec::Vec<u32>)),
    };
    let targets_type = (kind == Kind::Partition).then(|| quote!(targets: u32,));
    let document = format!("The operator `{name}`, as `millstream_sdk::testing` takes it.");
    let export = export(&format_ident!("{}", kind.attribute()), &quote!(#name));
    Ok(quote! {
        #[doc = #document]
        #[allow(non_camel_case_types)]
        #visibility enum #name {}

        #[automatically_derived]
        impl ::millstream_sdk::Operator for #name {
            type Instance = #instance;

            fn configure(
                settings: &::millstream_sdk::Settings,
            ) -> ::std::result::Result<Self::Instance, ::std::string::String> {
                #configure
            }

            fn signature() -> ::millstream_sdk::Signature {
                ::millstream_sdk::drive::#signature(#closure)
            }
        }

        #[automatically_derived]
        impl ::millstream_sdk::#operator for #name {
            fn #method(
                instance: &Self::Instance,
                input: #taken,
                #targets_type
            ) -> ::std::result::Result<#output, ::millstream_sdk::Failure> {
                ::millstream_sdk::drive::#drive(#input, #targets instance, #closure)
            }
        }

        #export
    })
}

/// The component's exports, for wasm32 only.
pub(crate) fn export(world: &syn::Ident, operator: &TokenStream) -> TokenStream {
    quote! {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code)]
        const _: () = {
            type Component = ::millstream_sdk::export::Component<#operator>;
            ::millstream_sdk::export::#world::export!(Component with_types_in ::millstream_sdk::export::#world);
        };
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, expand};
    use quote::quote;

    fn refused(kind: Kind, item: proc_macro2::TokenStream) -> String {
        expand(kind, &quote!(), item).unwrap_err().to_string()
    }

    #[test]
    fn a_generic_function_is_told_why() {
        let message = refused(
            Kind::Map,
            quote!(
                fn f<T>(row: T) -> T {
                    row
                }
            ),
        );
        assert!(message.contains("cannot be generic"), "{message}");
        assert!(message.ends_with("expected fn name(row: In) -> Out"), "{message}");
    }

    #[test]
    fn the_shape_is_named_where_the_parameters_do_not_fit() {
        assert!(
            refused(
                Kind::Filter,
                quote!(
                    fn f() -> bool {
                        true
                    }
                )
            )
            .contains("takes a row")
        );
        assert!(
            refused(
                Kind::Filter,
                quote!(
                    fn f(a: A, b: &B, c: &C) -> bool {
                        true
                    }
                )
            )
            .contains("takes a row")
        );
        assert!(
            refused(
                Kind::Map,
                quote!(
                    fn f(row: &In) -> Out {
                        Out
                    }
                )
            )
            .contains("by value")
        );
        assert!(
            refused(
                Kind::Map,
                quote!(
                    fn f(row: In, config: Config) -> Out {
                        Out
                    }
                )
            )
            .contains("`config: &Config`")
        );
        assert!(
            refused(
                Kind::Map,
                quote!(
                    fn f(row: In) {}
                )
            )
            .contains("answers nothing")
        );
    }

    #[test]
    fn other_items_and_arguments_are_refused() {
        assert!(
            refused(
                Kind::FlatMap,
                quote!(
                    struct S;
                )
            )
            .contains("#[flat_map] goes on a function")
        );
        let message = expand(
            Kind::Map,
            &quote!(fast),
            quote!(
                fn f(row: In) -> Out {
                    Out
                }
            ),
        )
        .unwrap_err()
        .to_string();
        assert_eq!(message, "#[map] takes no arguments");
    }
}
