//! One set of promises, held by every store that needs no server.

use super::*;

fn stores() -> Vec<(tempfile::TempDir, Objects)> {
    let folder = tempfile::tempdir().unwrap();
    let local = Objects::open(&Location::Folder(folder.path().join("a #b%20"))).unwrap();
    vec![(folder, local), (tempfile::tempdir().unwrap(), Objects::in_memory())]
}

#[tokio::test]
async fn files_are_written_read_listed_and_removed() {
    for (_folder, objects) in stores() {
        assert_eq!(objects.get("a/b").await.unwrap(), None);
        assert_eq!(objects.size("a/b").await.unwrap(), None);
        assert_eq!(objects.list("a").await.unwrap(), (vec![], vec![]));
        objects.put("a/b", b"one".to_vec()).await.unwrap();
        objects.put("a/b", b"other".to_vec()).await.unwrap();
        objects.put_away("a/c/d", b"x".to_vec()).await.unwrap();
        assert_eq!(objects.get("a/c/d").await.unwrap().unwrap(), b"x");
        assert_eq!(objects.get("a/b").await.unwrap().unwrap(), b"other");
        assert_eq!(objects.size("a/b").await.unwrap(), Some(5));
        assert_eq!(objects.list("a").await.unwrap(), (vec!["c".to_owned()], vec!["b".to_owned()]));
        assert_eq!(objects.list("").await.unwrap().0, ["a"]);
        objects.remove(vec!["a/b".to_owned(), "a/none".to_owned()]).await.unwrap();
        objects.remove_folder("a").await.unwrap();
        objects.remove_folder("a").await.unwrap();
        assert_eq!(objects.get("a/c/d").await.unwrap(), None);
        assert_eq!(objects.list("").await.unwrap().0, [] as [&str; 0]);
    }
}

#[tokio::test]
async fn of_many_that_make_one_file_one_succeeds_and_the_others_are_told() {
    for (_folder, objects) in stores() {
        let tries = (0..20).map(|number: u8| {
            let objects = objects.clone();
            tokio::spawn(async move { objects.put_new("epoch/manifest", vec![number; 100]).await.unwrap() })
        });
        let mut made = Vec::new();
        for (number, made_it) in tries.collect::<Vec<_>>().into_iter().enumerate() {
            made.extend(made_it.await.unwrap().then_some(number));
        }
        assert_eq!(made.len(), 1);
        let found = objects.get("epoch/manifest").await.unwrap().unwrap();
        assert_eq!(found, vec![u8::try_from(made[0]).unwrap(); 100]);
    }
}

#[tokio::test]
async fn large_files_go_in_parts_and_are_the_same() {
    for (_folder, objects) in stores() {
        let bytes: Vec<u8> = (0..MULTIPART_FROM_BYTES + 7).map(|at| (at % 251) as u8).collect();
        objects.put("large", bytes.clone()).await.unwrap();
        assert!(objects.get("large").await.unwrap().unwrap() == bytes);
    }
}

type Made<'a, T> = std::pin::Pin<Box<dyn Future<Output = object_store::Result<T>> + Send + 'a>>;

/// An upload whose second part does not arrive.
#[derive(Debug, Default)]
struct Failing {
    parts: usize,
    aborted: Arc<std::sync::atomic::AtomicBool>,
}

impl object_store::MultipartUpload for Failing {
    fn put_part(&mut self, _: object_store::PutPayload) -> object_store::UploadPart {
        self.parts += 1;
        let failed = || object_store::Error::Generic { store: "test", source: "on purpose".into() };
        Box::pin(std::future::ready(if self.parts == 2 { Err(failed()) } else { Ok(()) }))
    }

    fn complete<'a, 'b>(&'a mut self) -> Made<'b, object_store::PutResult>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async { panic!("finished though a part is missing") })
    }

    fn abort<'a, 'b>(&'a mut self) -> Made<'b, ()>
    where
        'a: 'b,
        Self: 'b,
    {
        self.aborted.store(true, std::sync::atomic::Ordering::SeqCst);
        Box::pin(std::future::ready(Ok(())))
    }
}

#[tokio::test]
async fn an_upload_of_which_a_part_has_not_arrived_is_given_up_with_its_parts() {
    let upload = Failing::default();
    let aborted = Arc::clone(&upload.aborted);
    let mut upload = WriteMultipart::new_with_chunk_size(Box::new(upload), 1);
    let error = loop {
        assert!(!aborted.load(std::sync::atomic::Ordering::SeqCst));
        match with_room(upload).await {
            Ok(with_room) => upload = with_room,
            Err(error) => break error,
        }
        upload.write(b"x");
    };
    assert!(error.to_string().contains("on purpose"), "{error}");
    assert!(aborted.load(std::sync::atomic::Ordering::SeqCst));
}
