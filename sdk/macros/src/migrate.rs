//! `migrate(1 = OldState, ..)` in `#[aggregate]` and `#[process]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::meta::ParseNestedMeta;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, LitInt, Result, Token, Type, parenthesized};

/// A version, and the row that it kept.
struct Source {
    version: u32,
    row: Type,
}

/// All that can be taken over.
#[derive(Default)]
pub(crate) struct Sources(Vec<Source>);

impl Parse for Source {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let literal: LitInt = input.parse()?;
        let version = literal.base10_parse()?;
        if version == 0 {
            return Err(Error::new(literal.span(), "versions start at 1"));
        }
        input.parse::<Token![=]>()?;
        Ok(Self { version, row: input.parse()? })
    }
}

impl Sources {
    /// What stands in the parentheses.
    pub(crate) fn read(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        let content;
        parenthesized!(content in meta.input);
        for source in Punctuated::<Source, Token![,]>::parse_terminated(&content)? {
            if self.0.iter().any(|known| known.version == source.version) {
                return Err(meta.error(format!("version {} is named twice", source.version)));
            }
            self.0.push(source);
        }
        if self.0.is_empty() { Err(meta.error("expected `migrate(1 = OldState)`")) } else { Ok(()) }
    }

    /// The operator's second contract; nothing where there is nothing to take over. `state` is its own state.
    pub(crate) fn expand(&self, operator: &TokenStream, state: &TokenStream) -> TokenStream {
        if self.0.is_empty() {
            return TokenStream::new();
        }
        let versions: Vec<u32> = self.0.iter().map(|source| source.version).collect();
        let rows: Vec<&Type> = self.0.iter().map(|source| &source.row).collect();
        let export = super::function::export(&format_ident!("migrate"), operator);
        quote! {
            #[automatically_derived]
            impl ::millstream_sdk::MigrateOperator for #operator {
                fn sources() -> ::std::vec::Vec<::millstream_sdk::StateSchema> {
                    ::std::vec![#(::millstream_sdk::migrate::source::<#rows>(#versions)),*]
                }

                fn migrate(
                    from: u32,
                    state: &::millstream_sdk::Batch,
                ) -> ::std::result::Result<::millstream_sdk::Batch, ::millstream_sdk::Failure> {
                    match from {
                        #(#versions => ::millstream_sdk::migrate::migrate::<#rows, #state>(state),)*
                        other => ::std::result::Result::Err(::millstream_sdk::migrate::unknown(other)),
                    }
                }
            }

            #export
        }
    }
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use crate::{aggregate, process};

    #[test]
    fn versions_are_named_with_the_rows_that_they_kept() {
        let made = aggregate::expand(
            quote!(version = 3, migrate(1 = Old, 2 = older::Kept)),
            quote!(impl Aggregate for Sum {}),
        );
        let made = made.unwrap().to_string();
        for part in
            ["MigrateOperator for Sum", "source :: < Old > (1u32)", "2u32 => :: millstream_sdk", "export :: migrate"]
        {
            assert!(made.contains(part), "{part} in {made}");
        }
        let made = process::expand(quote!(migrate(1 = Old)), quote!(impl Process for Dedup {})).unwrap().to_string();
        assert!(made.contains("< Old , < Dedup as :: millstream_sdk :: Process > :: State >"), "{made}");
        let made = process::expand(quote!(version = 2), quote!(impl Process for Dedup {})).unwrap().to_string();
        assert!(!made.contains("MigrateOperator"), "{made}");
    }

    #[test]
    fn what_is_no_version_is_refused() {
        let message =
            |arguments| aggregate::expand(arguments, quote!(impl Aggregate for Sum {})).err().unwrap().to_string();
        assert_eq!(message(quote!(migrate(0 = Old))), "versions start at 1");
        assert_eq!(message(quote!(migrate(1 = Old, 1 = Older))), "version 1 is named twice");
        assert_eq!(message(quote!(migrate())), "expected `migrate(1 = OldState)`");
        assert!(message(quote!(migrate(Old))).contains("expected integer literal"));
    }
}
