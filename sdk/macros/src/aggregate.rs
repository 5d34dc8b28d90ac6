//! `#[aggregate]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::parse::Parser;
use syn::spanned::Spanned;
use syn::{Error, ItemImpl, LitInt, Result};

/// What stands in the attribute's parentheses.
struct Arguments {
    version: u32,
    config: bool,
    migrate: super::migrate::Sources,
}

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let arguments = parse(arguments)?;
    let wrong = "#[aggregate] goes on `impl Aggregate for YourType`";
    let Ok(mut implementation) = syn::parse2::<ItemImpl>(item.clone()) else {
        return Err(Error::new(item.span(), wrong));
    };
    let is_aggregate = implementation.trait_.as_ref().and_then(|(_, path, _)| path.segments.last());
    if is_aggregate.is_none_or(|last| last.ident != "Aggregate") {
        return Err(Error::new(implementation.impl_token.span(), wrong));
    }
    if !implementation.generics.params.is_empty() {
        return Err(Error::new(implementation.generics.span(), "an aggregate cannot be generic: its rows are columns"));
    }
    // `fold` answers less than the trait says: that is the point of it.
    implementation.attrs.push(syn::parse_quote!(#[allow(refining_impl_trait)]));

    let name = &implementation.self_ty;
    let version = arguments.version;
    let configure = if arguments.config {
        quote!(settings.read())
    } else {
        quote!({
            let _ = settings;
            ::std::result::Result::Ok(<Self as ::std::default::Default>::default())
        })
    };
    let state = quote!(<#name as ::millstream_sdk::Aggregate>::Accumulator);
    let migrate = arguments.migrate.expand(&quote!(#name), &state);
    let export = super::function::export(&format_ident!("aggregate"), &quote!(#name));
    Ok(quote! {
        #implementation

        #[automatically_derived]
        impl ::millstream_sdk::Operator for #name {
            type Instance = Self;

            fn configure(settings: &::millstream_sdk::Settings) -> ::std::result::Result<Self, ::std::string::String> {
                #configure
            }

            fn signature() -> ::millstream_sdk::Signature {
                ::millstream_sdk::drive::aggregate_signature::<Self>()
            }
        }

        #[automatically_derived]
        impl ::millstream_sdk::AggregateOperator for #name {
            const VERSION: u32 = #version;
        }

        #export

        #migrate
    })
}

fn parse(arguments: TokenStream) -> Result<Arguments> {
    let mut parsed = Arguments { version: 1, config: false, migrate: Default::default() };
    let parser = syn::meta::parser(|meta| {
        if meta.path.is_ident("version") {
            let literal: LitInt = meta.value()?.parse()?;
            parsed.version = literal.base10_parse()?;
            if parsed.version == 0 {
                return Err(Error::new(literal.span(), "versions start at 1"));
            }
            Ok(())
        } else if meta.path.is_ident("config") {
            parsed.config = true;
            Ok(())
        } else if meta.path.is_ident("migrate") {
            parsed.migrate.read(&meta)
        } else {
            Err(meta.error("expected `version = 1`, `config` or `migrate(1 = OldState)`"))
        }
    });
    parser.parse2(arguments)?;
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::expand;
    use quote::quote;

    #[test]
    fn it_goes_on_an_implementation_of_the_trait_only() {
        for item in [
            quote!(
                struct Average;
            ),
            quote!(impl Average {}),
            quote!(impl Display for Average {}),
        ] {
            let message = expand(quote!(), item).unwrap_err().to_string();
            assert_eq!(message, "#[aggregate] goes on `impl Aggregate for YourType`");
        }
    }

    #[test]
    fn arguments_are_checked() {
        let item = quote!(impl Aggregate for Average {});
        let message = |arguments| expand(arguments, item.clone()).unwrap_err().to_string();
        assert!(message(quote!(versoin = 2)).contains("expected `version = 1`, `config` or"));
        assert_eq!(message(quote!(version = 0)), "versions start at 1");
        expand(quote!(version = 2, config), item.clone()).unwrap();
    }
}
