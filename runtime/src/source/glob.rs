//! Which files a path names: one, a folder's, or those of a pattern with `*` (any number of characters) and `?` (one) in
//! its last part.

use std::io;
use std::path::{Path, PathBuf};

/// The files that `path` names, in order of their names: itself if it is a file, all files in it if it is a folder, else
/// what its last part matches.
///
/// Folders in a folder are not looked into. Names that start with `.` are not matched, as in a shell; a folder's files
/// that start with `_` (marks that other systems leave) or end in `.pending` (results that are not whole) are no data.
pub(super) fn matches(path: &Path) -> io::Result<Vec<PathBuf>> {
    if path.is_dir() {
        return files(path, |name| !name.starts_with(['.', '_']) && !name.ends_with(".pending"));
    }
    if path.try_exists()? {
        return Ok(vec![path.to_owned()]);
    }
    let Some(pattern) = path.file_name().and_then(|name| name.to_str()).filter(|name| name.contains(['*', '?'])) else {
        return Ok(Vec::new());
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    files(folder, |name| (!name.starts_with('.') || pattern.starts_with('.')) && fits(pattern, name))
}

/// The files of a folder whose names are `wanted`, in order.
fn files(folder: &Path, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&wanted) && !entry.path().is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a name fits a pattern, in time linear in both: after a mismatch only the last `*` takes one character more.
fn fits(pattern: &str, name: &str) -> bool {
    let characters: Vec<char> = name.chars().collect();
    let pattern: Vec<char> = pattern.chars().collect();
    let (mut p, mut c) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while c < characters.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, c));
                p += 1;
            }
            Some(wanted) if *wanted == '?' || Some(wanted) == characters.get(c) => {
                p += 1;
                c += 1;
            }
            _ => {
                let Some((after_star, taken)) = retry else { return false };
                retry = Some((after_star, taken + 1));
                (p, c) = (after_star, taken + 1);
            }
        }
    }
    pattern.get(p..).is_some_and(|left| left.iter().all(|star| *star == '*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*.json", "a.json", true),
            ("*.json", "a.jsonl", false),
            ("part-??.csv", "part-07.csv", true),
            ("part-??.csv", "part-7.csv", false),
            ("*", "", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b", false),
            ("ü?", "üß", true),
            ("[a]", "a", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn matching_files_come_sorted_without_folders_and_hidden_ones() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.txt", "a.txt", ".c.txt", "a.log"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::create_dir(folder.path().join("d.txt")).unwrap();
        let found = matches(&folder.path().join("*.txt")).unwrap();
        assert_eq!(found, [folder.path().join("a.txt"), folder.path().join("b.txt")]);
    }

    #[test]
    fn a_folder_is_all_its_files_in_order_but_marks_and_unfinished_ones() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["10.csv", "9.csv", "a", ".hidden", "_SUCCESS", "b.csv.pending"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::create_dir(folder.path().join("inner")).unwrap();
        let expected: Vec<PathBuf> = ["10.csv", "9.csv", "a"].map(|name| folder.path().join(name)).into();
        assert_eq!(matches(folder.path()).unwrap(), expected);
        assert_eq!(matches(&folder.path().join("inner/")).unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_name_with_a_star_in_it_is_taken_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a*.txt");
        std::fs::write(&path, "").unwrap();
        std::fs::write(folder.path().join("ab.txt"), "").unwrap();
        assert_eq!(matches(&path).unwrap(), [path]);
    }
}
