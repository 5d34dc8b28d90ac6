//! Map: the first three folders of a page's address (Nexmark query 22).

use millstream_sdk::Row;

/// What is read of a bid.
#[derive(Clone, Debug, Row)]
pub struct Bid<'a> {
    /// `https://host/dir1/dir2/dir3/..`
    pub url: &'a str,
}

/// What is added to it.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Folders<'a> {
    /// null if there are fewer
    pub dir1: Option<&'a str>,
    /// null if there are fewer
    pub dir2: Option<&'a str>,
    /// null if there are fewer
    pub dir3: Option<&'a str>,
}

/// The folders of the address.
#[millstream_sdk::map]
pub fn nexmark_folders<'a>(bid: Bid<'a>) -> Folders<'a> {
    let mut parts = bid.url.split('/').skip(3);
    Folders { dir1: parts.next(), dir2: parts.next(), dir3: parts.next() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn folders_that_are_not_there_are_null() {
        let bids = ["https://h/a/b/c/item", "https://h/a"].map(|url| Bid { url });
        let folders = testing::map::<nexmark_folders, _, Folders<'_>>(&[], bids).unwrap();
        let folders = folders.to_rows().unwrap();
        assert_eq!(folders[0], Folders { dir1: Some("a"), dir2: Some("b"), dir3: Some("c") });
        assert_eq!(folders[1], Folders { dir1: Some("a"), dir2: None, dir3: None });
    }
}
