//! The device's memory of the masked rounds it has answered in.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};
use testudo_protocol::secagg::{Answered, Answers, Recorded, Session};

/// Largest file of answers, bytes; older ones of the same server and task can be dropped by hand.
const BYTES: u64 = 64 << 20;

/// Server, task, round and attempt.
type Key = (String, String, u64, u32);

/// Answers that are forgotten with the process. Enough as long as round secrets are never saved: a process that has
/// forgotten its answer has no secret left to answer with.
#[derive(Debug, Default)]
pub struct MemoryAnswers(Mutex<BTreeMap<Key, Answered>>);

/// Answers in a file of lines, each on storage before its answer leaves.
#[derive(Debug)]
pub struct FileAnswers {
    path: PathBuf,
    known: Mutex<(File, BTreeMap<Key, Answered>)>,
}

impl FileAnswers {
    /// Opens the file, or makes it. Keep it apart from saved sessions, so that restoring one does not restore the other.
    ///
    /// # Errors
    /// If it cannot be opened, is damaged, or another process has it.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref().to_path_buf();
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(&path)?;
        if file.metadata()?.len() > BYTES {
            return Err(io::Error::other(format!("{} is over {BYTES} bytes", path.display())));
        }
        file.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => {
                io::Error::other(format!("{}: another process uses it; each client needs its own", path.display()))
            }
            fs::TryLockError::Error(error) => error,
        })?;
        let text = fs::read_to_string(&path)?;
        let mut known = BTreeMap::new();
        // A crash may have cut the last line: its answer never left.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for line in text[..whole].lines() {
            let answered =
                parse(line).ok_or_else(|| io::Error::other(format!("{}: {line:?} is no answer", path.display())))?;
            known.insert(key(&answered), answered);
        }
        if whole < text.len() {
            file.set_len(whole as u64)?;
        }
        file.flush()?;
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            File::open(directory)?.sync_all()?;
        }
        Ok(Self { path, known: Mutex::new((file, known)) })
    }

    /// Rounds answered in.
    pub fn len(&self) -> usize {
        lock(&self.known).1.len()
    }

    /// Whether no round was answered in yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Answers for MemoryAnswers {
    fn earlier(&self, session: &Session) -> Result<Option<Answered>, String> {
        Ok(lock(&self.0).get(&key_of(session)).cloned())
    }

    fn record(&self, answer: &Answered) -> Result<Recorded, String> {
        let mut known = lock(&self.0);
        if let Some(recorded) = earlier(&known, answer) {
            return Ok(recorded);
        }
        known.insert(key(answer), answer.clone());
        Ok(Recorded::First)
    }
}

impl Answers for FileAnswers {
    fn earlier(&self, session: &Session) -> Result<Option<Answered>, String> {
        Ok(lock(&self.known).1.get(&key_of(session)).cloned())
    }

    fn record(&self, answer: &Answered) -> Result<Recorded, String> {
        let mut known = lock(&self.known);
        if let Some(recorded) = earlier(&known.1, answer) {
            return Ok(recorded);
        }
        let line = format!(
            "{} {} {} {} {} {}\n",
            hex::encode(answer.server.0),
            answer.task,
            answer.round,
            answer.attempt,
            answer.tau,
            answer.survivors
        );
        let failed = |error: io::Error| format!("{}: {error}", self.path.display());
        let before = known.0.metadata().map_err(failed)?.len();
        if let Err(error) = known.0.write_all(line.as_bytes()).and_then(|()| known.0.sync_all()) {
            // What was written of the line would spoil the next one.
            let _ = known.0.set_len(before);
            return Err(failed(error));
        }
        known.1.insert(key(answer), answer.clone());
        Ok(Recorded::First)
    }
}

fn earlier(known: &BTreeMap<Key, Answered>, answer: &Answered) -> Option<Recorded> {
    let before = known.get(&key(answer))?;
    Some(if before == answer { Recorded::Again } else { Recorded::Other(Box::new(before.clone())) })
}

fn key(answer: &Answered) -> Key {
    (hex::encode(answer.server.0), answer.task.to_string(), answer.round, answer.attempt)
}

fn key_of(session: &Session) -> Key {
    (hex::encode(session.server.0), session.task.to_string(), session.round, session.attempt)
}

fn parse(line: &str) -> Option<Answered> {
    let mut words = line.split(' ');
    let answered = Answered {
        server: words.next()?.parse().ok()?,
        task: words.next()?.parse().ok()?,
        round: words.next()?.parse().ok()?,
        attempt: words.next()?.parse().ok()?,
        tau: words.next()?.parse().ok()?,
        survivors: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(answered)
}

/// A panic elsewhere leaves nothing half-written here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use testudo_protocol::{Digest, TaskName, secagg::VerifyingKey};

    fn answer(round: u64, survivors: u8) -> Answered {
        Answered {
            server: VerifyingKey([7; 32]),
            task: TaskName::new("task").unwrap(),
            round,
            attempt: 1,
            tau: Digest([1; 32]),
            survivors: Digest([survivors; 32]),
        }
    }

    #[test]
    fn a_second_set_of_survivors_is_refused_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("answers");
        let answers = FileAnswers::open(&path).unwrap();
        assert_eq!(answers.record(&answer(1, 1)), Ok(Recorded::First));
        assert_eq!(answers.record(&answer(1, 1)), Ok(Recorded::Again));
        assert!(FileAnswers::open(&path).is_err(), "one process at a time");
        drop(answers);
        let answers = FileAnswers::open(&path).unwrap();
        assert_eq!(answers.record(&answer(1, 2)), Ok(Recorded::Other(Box::new(answer(1, 1)))));
        assert_eq!(answers.record(&answer(2, 2)), Ok(Recorded::First));
        assert_eq!(answers.len(), 2);
    }

    #[test]
    fn a_line_cut_by_a_crash_is_forgotten_and_a_damaged_file_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("answers");
        FileAnswers::open(&path).unwrap().record(&answer(1, 1)).unwrap();
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{whole}{}", &whole[..40])).unwrap();
        let answers = FileAnswers::open(&path).unwrap();
        assert_eq!(answers.record(&answer(2, 1)), Ok(Recorded::First));
        drop(answers);
        assert_eq!(FileAnswers::open(&path).unwrap().len(), 2);
        fs::write(&path, "not an answer\n").unwrap();
        assert!(FileAnswers::open(&path).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_answer_that_storage_does_not_take_does_not_count_as_given() {
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let answers = FileAnswers { path: "/dev/full".into(), known: Mutex::new((full, BTreeMap::new())) };
        assert!(answers.record(&answer(1, 1)).unwrap_err().contains("/dev/full"));
        assert_eq!(answers.earlier(&session(1)), Ok(None));
        // What a full disk took of a line is cut off again; here there is nothing to cut.
        assert!(answers.record(&answer(1, 2)).is_err());
    }

    fn session(round: u64) -> Session {
        Session { round, server: VerifyingKey([7; 32]), ..fixture::session() }
    }

    #[test]
    fn what_was_answered_is_known_before_a_round_is_joined_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("answers");
        let file = FileAnswers::open(&path).unwrap();
        let memory = MemoryAnswers::default();
        for answers in [&file as &dyn Answers, &memory] {
            assert_eq!(answers.earlier(&session(1)), Ok(None));
            answers.record(&answer(1, 1)).unwrap();
            assert_eq!(answers.earlier(&session(1)), Ok(Some(answer(1, 1))));
            assert_eq!(answers.earlier(&session(2)), Ok(None));
            let (mut task, mut server, mut attempt) = (session(1), session(1), session(1));
            task.task = TaskName::new("other").unwrap();
            server.server = VerifyingKey([8; 32]);
            attempt.attempt = 2;
            assert!([task, server, attempt].iter().all(|other| answers.earlier(other) == Ok(None)));
        }
        drop(file);
        assert_eq!(FileAnswers::open(&path).unwrap().earlier(&session(1)), Ok(Some(answer(1, 1))));
    }

    #[test]
    fn memory_knows_as_long_as_the_process_lives() {
        let answers = MemoryAnswers::default();
        assert_eq!(answers.record(&answer(1, 1)), Ok(Recorded::First));
        assert_eq!(answers.record(&answer(1, 1)), Ok(Recorded::Again));
        assert!(matches!(answers.record(&answer(1, 2)), Ok(Recorded::Other(_))));
    }
}
