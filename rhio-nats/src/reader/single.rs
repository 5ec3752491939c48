//! Single messages of a stream.

use std::time::Duration;

use bytes::Bytes;

use super::ReadError;
use crate::client::Client;
use crate::raw::exchange::Exchange;
use crate::raw::js::{Api, GetRequest, Single, subject_of_direct};

/// How long the answers to questions that are asked at once may take.
const ANSWER: Duration = Duration::from_secs(5);

/// The message that a question is about; `None` when there is none.
///
/// # Errors
/// When NATS does not answer.
pub(crate) async fn get(client: &Client, stream: &str, question: GetRequest<'_>) -> Result<Option<Single>, ReadError> {
    Ok(get_all(client, stream, &[question]).await?.pop().flatten())
}

/// The messages that several questions are about, in their order. They are all under way at once, so there should not be
/// too many, nor too large ones.
///
/// # Errors
/// When NATS does not answer one of them.
pub(crate) async fn get_all(
    client: &Client,
    stream: &str,
    questions: &[GetRequest<'_>],
) -> Result<Vec<Option<Single>>, ReadError> {
    let api = Api::new(client.pool.settings());
    let mut lent = client.pool.lend().await?;
    get_over(lent.exchange()?, &api, stream, questions).await
}

/// The same over a connection that is there.
///
/// # Errors
/// When NATS does not answer one of them.
pub async fn get_over(
    exchange: &mut Exchange,
    api: &Api,
    stream: &str,
    questions: &[GetRequest<'_>],
) -> Result<Vec<Option<Single>>, ReadError> {
    let payloads = questions.iter().map(|question| Bytes::from(question.json()));
    let answers = exchange.ask_all(&api.get(stream), payloads, ANSWER).await?;
    let mut found = Vec::with_capacity(answers.len());
    for answer in &answers {
        let mut single = Single::read(answer)?;
        if let Some(single) = single.as_mut().filter(|single| single.subject.is_none()) {
            // JSON can't hold its subject, the stream itself can tell it.
            let seq = single.seq;
            let question = GetRequest { seq, filter: None }.json().into();
            let answer = exchange.ask(&api.direct_get(stream), question, ANSWER).await?;
            single.subject = Some(subject_of_direct(&answer, seq).ok_or(ReadError::Untold(seq))?);
        }
        found.push(single);
    }
    Ok(found)
}
