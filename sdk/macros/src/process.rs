//! `#[process]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, ImplItem, ItemImpl, LitInt, Path, Result, Token, parenthesized};

/// What stands in the attribute's parentheses.
struct Arguments {
    version: u32,
    config: bool,
    migrate: super::migrate::Sources,
    sides: Vec<Path>,
}

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let Arguments { version, config, sides, migrate } = parse(arguments)?;
    let wrong = "#[process] goes on `impl Process for YourType`";
    let Ok(mut implementation) = syn::parse2::<ItemImpl>(item.clone()) else {
        return Err(Error::new(item.span(), wrong));
    };
    let is_process = implementation.trait_.as_ref().and_then(|(_, path, _)| path.segments.last());
    if is_process.is_none_or(|last| last.ident != "Process") {
        return Err(Error::new(implementation.impl_token.span(), wrong));
    }
    if !implementation.generics.params.is_empty() {
        return Err(Error::new(implementation.generics.span(), "a processor cannot be generic: its rows are columns"));
    }
    // handlers answer less than the trait says: that is the point of it
    implementation.attrs.push(syn::parse_quote!(#[allow(refining_impl_trait)]));
    let has = |name: &str| {
        implementation.items.iter().any(|item| match item {
            ImplItem::Type(kind) => kind.ident == name,
            ImplItem::Fn(function) => function.sig.ident == name,
            _ => false,
        })
    };
    let second = has("Second");
    if has("on_second") && !second {
        return Err(Error::new(implementation.span(), "`on_second` needs `type Second<'a>`, what is read of its rows"));
    }
    let mut missing: Vec<ImplItem> = Vec::new();
    if !second {
        missing.push(syn::parse_quote!(
            type Second<'a> = ();
        ));
    }
    for name in ["Key", "State"] {
        if !has(name) {
            let name = format_ident!("{name}");
            missing.push(syn::parse_quote!(type #name = ();));
        }
    }
    implementation.items.extend(missing);

    let name = &implementation.self_ty;
    let configure = if config {
        quote!(settings.read())
    } else {
        quote!({
            let _ = settings;
            ::std::result::Result::Ok(<Self as ::std::default::Default>::default())
        })
    };
    let state = quote!(<#name as ::millstream_sdk::Process>::State);
    let migrate = migrate.expand(&quote!(#name), &state);
    let export = super::function::export(&format_ident!("process"), &quote!(#name));
    Ok(quote! {
        #implementation

        #[automatically_derived]
        impl ::millstream_sdk::Operator for #name {
            type Instance = Self;

            fn configure(settings: &::millstream_sdk::Settings) -> ::std::result::Result<Self, ::std::string::String> {
                #configure
            }

            fn signature() -> ::millstream_sdk::Signature {
                ::millstream_sdk::drive::processor_signature::<Self>()
            }
        }

        #[automatically_derived]
        impl ::millstream_sdk::ProcessOperator for #name {
            const VERSION: u32 = #version;
            const SECOND: bool = #second;

            fn sides() -> ::std::vec::Vec<::millstream_sdk::drive::SideWriter> {
                ::std::vec![#(#sides.writer()),*]
            }
        }

        #export

        #migrate
    })
}

fn parse(arguments: TokenStream) -> Result<Arguments> {
    let mut parsed = Arguments { version: 1, config: false, sides: Vec::new(), migrate: Default::default() };
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
        } else if meta.path.is_ident("sides") {
            let content;
            parenthesized!(content in meta.input);
            parsed.sides.extend(Punctuated::<Path, Token![,]>::parse_terminated(&content)?);
            Ok(())
        } else {
            Err(meta.error("expected `version = 1`, `config`, `sides(NAME, ..)` or `migrate(1 = OldState)`"))
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
                struct Dedup;
            ),
            quote!(impl Dedup {}),
            quote!(impl Display for Dedup {}),
        ] {
            let message = expand(quote!(), item).unwrap_err().to_string();
            assert_eq!(message, "#[process] goes on `impl Process for YourType`");
        }
    }

    #[test]
    fn types_that_are_left_out_are_nothing() {
        let made = expand(quote!(sides(ALERTS, SLOW)), quote!(impl Process for Dedup {})).unwrap().to_string();
        for part in ["type Key = () ;", "type State = () ;", "SECOND : bool = false", "ALERTS . writer ()"] {
            assert!(made.contains(part), "{part} in {made}");
        }
        let made = expand(quote!(), quote!(impl Process for Dedup { type Key = User; type Second<'a> = Rule; }));
        let made = made.unwrap().to_string();
        assert!(!made.contains("type Key = ()") && made.contains("SECOND : bool = true"), "{made}");
    }

    #[test]
    fn arguments_are_checked() {
        let item = quote!(impl Process for Dedup {});
        let message = |arguments| expand(arguments, item.clone()).unwrap_err().to_string();
        assert!(message(quote!(side(A))).contains("`sides(NAME, ..)`"));
        assert_eq!(message(quote!(version = 0)), "versions start at 1");
        let lonely = quote!(impl Process for Dedup { fn on_second() {} });
        assert!(expand(quote!(), lonely).unwrap_err().to_string().contains("type Second<'a>"));
    }
}
