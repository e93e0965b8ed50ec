//! The least that a question costs: one frame to another thread and one back, over loopback, with nothing in between. Both
//! threads block in the kernel. What a lone client waits for on such a machine is mostly this.

use crate::clock;
use crate::driver::{Measured, Timing, repeat};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

/// The name of its row.
pub(crate) const ECHO: &str = "loopback_echo_c1";
/// Bytes of a frame that asks for a key of sixteen bytes, and of one that brings 128 bytes.
const QUESTION: usize = 64;
const ANSWER: usize = 192;

/// Measures it. The time of both threads is the servers'.
pub(crate) fn measure(timing: Timing) -> anyhow::Result<Measured> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut asker = TcpStream::connect(listener.local_addr()?)?;
    let (mut answerer, _) = listener.accept()?;
    asker.set_nodelay(true)?;
    answerer.set_nodelay(true)?;
    std::thread::scope(|scope| {
        let answers = scope.spawn(move || answer(&mut answerer));
        let measured = repeat(timing, || ask(&mut asker));
        drop(asker);
        answers.join().expect("who answers does not panic")?;
        measured
    })
}

/// Answers until nobody asks any more.
fn answer(stream: &mut (impl Read + Write)) -> io::Result<()> {
    let mut question = [0; QUESTION];
    loop {
        match stream.read_exact(&mut question) {
            Ok(()) => stream.write_all(&[0; ANSWER])?,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn ask(stream: &mut (impl Read + Write)) -> anyhow::Result<Duration> {
    let begin = clock::now();
    stream.write_all(&[0; QUESTION])?;
    stream.read_exact(&mut [0; ANSWER])?;
    Ok(begin.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_question_has_one_answer() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut asker = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut answerer, _) = listener.accept().unwrap();
        let answers = std::thread::spawn(move || answer(&mut answerer));
        asker.write_all(&[0; 2 * QUESTION]).unwrap();
        asker.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answered = Vec::new();
        asker.read_to_end(&mut answered).unwrap();
        answers.join().unwrap().unwrap();
        assert_eq!(answered.len(), 2 * ANSWER);
    }
}
