//! `#[derive(Row)]`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Field, Fields, GenericParam, Index, Lifetime, LitStr, Result, Type};

const SUPPORTED: &str =
    "bool, i64, f64, String, &str, Vec<u8>, &[u8], Timestamp, Packed<T>, and Option of these for columns with nulls";

/// One field: where it is and what its column is called.
struct Column<'a> {
    member: &'a syn::Ident,
    name: String,
    kind: &'a Type,
    index: Index,
}

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let life = lifetime(input)?;
    let columns = columns(input)?;
    let row = write(input, &columns);
    // A field that lives for ever can be written, but not borrowed from a batch: the row is for results only.
    let results_only = columns.iter().any(|column| column.kind.to_token_stream().to_string().contains("'static"));
    let read = if results_only { TokenStream::new() } else { read(input, &columns, life.as_ref()) };
    Ok(quote! { #row #read })
}

/// The only generic parameter that a row may have.
fn lifetime(input: &DeriveInput) -> Result<Option<Lifetime>> {
    let mut found = None;
    for parameter in &input.generics.params {
        match parameter {
            GenericParam::Lifetime(life) if found.is_none() => found = Some(life.lifetime.clone()),
            GenericParam::Lifetime(life) => {
                return Err(Error::new(life.span(), "a row may have one lifetime: all it borrows is one batch"));
            }
            other => {
                return Err(Error::new(
                    other.span(),
                    "a row cannot be generic: its fields are the columns that the operator declares",
                ));
            }
        }
    }
    Ok(found)
}

fn columns(input: &DeriveInput) -> Result<Vec<Column<'_>>> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new(input.ident.span(), "a row is a struct: each field is a column"));
    };
    let fields = match &data.fields {
        Fields::Named(fields) => fields,
        Fields::Unit => {
            return Err(Error::new(input.ident.span(), "a row has named fields; one without columns is written `{}`"));
        }
        Fields::Unnamed(fields) => {
            return Err(Error::new(fields.span(), "a row has named fields: their names are those of the columns"));
        }
    };
    let mut columns: Vec<Column<'_>> = Vec::new();
    for (index, field) in fields.named.iter().enumerate() {
        let Some(member) = &field.ident else { continue };
        check_type(&field.ty)?;
        let name = name(field, member)?;
        if columns.iter().any(|column| column.name == name) {
            return Err(Error::new(field.span(), format!("two fields are column \"{name}\"")));
        }
        columns.push(Column { member, name, kind: &field.ty, index: Index::from(index) });
    }
    Ok(columns)
}

/// The column's name: the field's, or `#[column(name = "..")]`.
fn name(field: &Field, member: &syn::Ident) -> Result<String> {
    let mut name = None;
    for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("column")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("name") {
                return Err(meta.error("expected `name = \"..\"`"));
            }
            name = Some(meta.value()?.parse::<LitStr>()?.value());
            Ok(())
        })?;
    }
    Ok(name.unwrap_or_else(|| member.to_string().trim_start_matches("r#").to_owned()))
}

/// Refuses what is certainly wrong with the type to write instead. What is left the compiler checks.
fn check_type(kind: &Type) -> Result<()> {
    let refuse = |instead: &str| {
        let written = quote!(#kind).to_string().replace(' ', "");
        Err(Error::new(kind.span(), format!("`{written}` cannot be a column; {instead}\ncolumns are: {SUPPORTED}")))
    };
    match kind {
        Type::Path(path) => {
            let Some(last) = path.path.segments.last() else { return Ok(()) };
            match last.ident.to_string().as_str() {
                "i8" | "i16" | "i32" | "i128" | "isize" | "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => {
                    refuse("integers are i64")
                }
                "f32" => refuse("floating point numbers are f64"),
                "char" => refuse("text is String or &str"),
                "str" => refuse("borrowed text is &str"),
                "HashMap" | "BTreeMap" | "HashSet" | "BTreeSet" | "VecDeque" => refuse("wrap it: Packed<..>"),
                "Vec" if !is_bytes(&last.arguments) => refuse("wrap it: Packed<..>"),
                "Option" => inner(&last.arguments).map_or(Ok(()), |inner| match inner {
                    Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Option") => {
                        refuse("a value is null or not: one Option will do")
                    }
                    other => check_type(other),
                }),
                _ => Ok(()),
            }
        }
        Type::Reference(reference) => match (&*reference.elem, &reference.mutability) {
            (_, Some(_)) => refuse("columns are read, not changed"),
            (Type::Path(path), None) if path.path.is_ident("str") => Ok(()),
            (Type::Slice(slice), None) if matches!(&*slice.elem, Type::Path(path) if path.path.is_ident("u8")) => {
                Ok(())
            }
            _ => refuse("only text and bytes are borrowed"),
        },
        Type::Tuple(_) | Type::Array(_) | Type::BareFn(_) | Type::Ptr(_) | Type::Slice(_) => {
            refuse("wrap it: Packed<..>")
        }
        _ => Ok(()),
    }
}

fn inner(arguments: &syn::PathArguments) -> Option<&Type> {
    let syn::PathArguments::AngleBracketed(arguments) = arguments else { return None };
    match arguments.args.first() {
        Some(syn::GenericArgument::Type(inner)) => Some(inner),
        _ => None,
    }
}

fn is_bytes(arguments: &syn::PathArguments) -> bool {
    matches!(inner(arguments), Some(Type::Path(path)) if path.path.is_ident("u8"))
}

/// Calls of one method of `Cell` for each column, spanned to the field's type: there the compiler reports what is no cell.
fn each(columns: &[Column<'_>], call: impl Fn(&Column<'_>, TokenStream) -> TokenStream) -> TokenStream {
    columns
        .iter()
        .map(|column| {
            let kind = column.kind;
            let cell = quote_spanned!(kind.span()=> <#kind as ::millstream_sdk::Cell>);
            call(column, cell)
        })
        .collect()
}

fn write(input: &DeriveInput, columns: &[Column<'_>]) -> TokenStream {
    let ident = &input.ident;
    let (generics, arguments, clause) = input.generics.split_for_impl();
    let writers = each(columns, |_, cell| quote!(#cell::Writer,));
    let fields = each(columns, |column, cell| {
        let name = &column.name;
        quote!(::millstream_sdk::Field {
            name: ::std::string::String::from(#name),
            kind: #cell::KIND,
            nullable: #cell::NULLABLE,
        },)
    });
    let new = each(columns, |_, cell| quote!(#cell::writer(rows, bytes),));
    let room = each(columns, |Column { index, .. }, cell| quote!(.min(#cell::room(&writer.#index))));
    let set =
        each(columns, |Column { member, index, .. }, cell| quote!(#cell::set(self.#member, &mut writer.#index, row);));
    let push =
        each(columns, |Column { member, index, .. }, cell| quote!(#cell::push(self.#member, &mut writer.#index);));
    let finish = each(columns, |Column { index, .. }, cell| quote!(#cell::finish(writer.#index),));
    quote! {
        #[automatically_derived]
        #[allow(unused_variables, clippy::unused_unit)]
        impl #generics ::millstream_sdk::Row for #ident #arguments #clause {
            type Writer = (#writers);

            fn fields() -> ::std::vec::Vec<::millstream_sdk::Field> {
                ::std::vec![#fields]
            }

            #[inline]
            fn writer(rows: usize, bytes: usize) -> Self::Writer {
                (#new)
            }

            #[inline]
            fn room(writer: &Self::Writer) -> usize {
                usize::MAX #room
            }

            #[inline]
            fn set(self, writer: &mut Self::Writer, row: usize) {
                #set
            }

            #[inline]
            fn push(self, writer: &mut Self::Writer) {
                #push
            }

            #[inline]
            fn finish(writer: Self::Writer) -> ::std::vec::Vec<::millstream_sdk::Column> {
                ::std::vec![#finish]
            }
        }
    }
}

fn read(input: &DeriveInput, columns: &[Column<'_>], life: Option<&Lifetime>) -> TokenStream {
    let ident = &input.ident;
    let (_, arguments, clause) = input.generics.split_for_impl();
    let batch = life.cloned().unwrap_or_else(|| Lifetime::new("'batch", Span::call_site()));
    let cell = |column: &Column<'_>| {
        let kind = column.kind;
        quote_spanned!(kind.span()=> <#kind as ::millstream_sdk::ReadCell<#batch>>)
    };
    let readers: TokenStream = columns.iter().map(cell).map(|cell| quote!(#cell::Reader,)).collect();
    let count = columns.len();
    let bindings: Vec<_> = columns.iter().map(|column| quote::format_ident!("column_{}", column.index.index)).collect();
    let open: TokenStream = columns
        .iter()
        .zip(&bindings)
        .map(|(column, binding)| {
            let cell = cell(column);
            let name = &column.name;
            quote! {
                #cell::open(#binding, rows).map_err(|what| ::std::format!("column \"{}\": {}", #name, what))?,
            }
        })
        .collect();
    let values: TokenStream = columns
        .iter()
        .map(|column| {
            let cell = cell(column);
            let Column { member, index, .. } = column;
            quote!(#member: #cell::read(&reader.#index, row)?,)
        })
        .collect();
    let rows: TokenStream = columns
        .iter()
        .map(|column| {
            let cell = cell(column);
            let index = &column.index;
            quote!(.min(#cell::rows(&reader.#index)))
        })
        .collect();
    quote! {
        #[automatically_derived]
        #[allow(unused_variables, clippy::unused_unit)]
        impl<#batch> ::millstream_sdk::ReadRow<#batch> for #ident #arguments #clause {
            type Reader = (#readers);

            #[inline]
            fn open(batch: &#batch ::millstream_sdk::Batch) -> ::std::result::Result<Self::Reader, ::std::string::String> {
                let rows = batch.rows as usize;
                let [#(#bindings),*] = batch.columns.as_slice() else {
                    return ::std::result::Result::Err(
                        ::std::format!("expected {} columns, got {}", #count, batch.columns.len()),
                    );
                };
                ::std::result::Result::Ok((#open))
            }

            #[inline]
            fn rows(reader: &Self::Reader) -> usize {
                usize::MAX #rows
            }

            #[inline]
            fn read(reader: &Self::Reader, row: usize) -> ::std::result::Result<Self, ::std::string::String> {
                ::std::result::Result::Ok(#ident { #values })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::derive;

    fn refused(code: &str) -> String {
        let input = syn::parse_str(code).unwrap();
        derive(&input).unwrap_err().to_string()
    }

    #[test]
    fn an_unsupported_integer_names_the_one_to_use_and_all_types() {
        let message = refused("struct Bid { auction: u32 }");
        assert!(
            message.starts_with("`u32` cannot be a column; integers are i64\ncolumns are: bool, i64,"),
            "{message}"
        );
    }

    #[test]
    fn an_unsupported_type_is_found_inside_an_option() {
        assert!(refused("struct Bid { price: Option<f32> }").starts_with("`f32` cannot be a column; floating"));
        assert!(refused("struct Bid { price: Option<Option<f64>> }").contains("one Option will do"));
    }

    #[test]
    fn collections_are_told_of_packed() {
        assert!(refused("struct Bag { words: HashSet<String> }").contains("Packed"));
        assert!(refused("struct Bag { words: Vec<String> }").contains("Packed"));
    }

    #[test]
    fn generics_enums_and_tuple_structs_are_refused() {
        assert!(refused("struct Bid<T> { price: T }").contains("cannot be generic"));
        assert!(refused("struct Bid<'a, 'b> { a: &'a str, b: &'b str }").contains("one lifetime"));
        assert!(refused("enum Bid { A }").contains("is a struct"));
        assert!(refused("struct Bid(i64);").contains("named fields"));
    }

    #[test]
    fn a_column_is_named_once() {
        assert!(
            refused("struct Bid { a: i64, #[column(name = \"a\")] b: i64 }").contains("two fields are column \"a\"")
        );
    }

    #[test]
    fn supported_types_pass() {
        let input = "struct Bid<'a> { a: bool, b: i64, c: f64, d: String, e: &'a str, f: Vec<u8>, g: &'a [u8],
            h: Timestamp, i: Option<&'a str>, j: Packed<HashSet<String>>, r#type: i64 }";
        derive(&syn::parse_str(input).unwrap()).unwrap();
    }
}
