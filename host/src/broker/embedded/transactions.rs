//! Transactions: several records, with offsets or without, as one request to the writer, which keeps all of it or nothing
//! (`writer`). Owns who has which transactional id; the offsets' owner is the `coordinator`'s to know.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::{
    Shared,
    catalog::Catalog,
    commits,
    placement::{Placed, place},
    queue::{Refused, Request},
};
use crate::{
    broker::{Produced, Refusal, TransactError, Transactions},
    record::NewRecord,
};

/// A transaction on its way to the writer.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) records: Vec<Placed>,
    /// What is committed with them, and for which group.
    pub(super) commit: Option<(Arc<str>, commits::Offsets)>,
    /// Told where each record went; whoever does not wait any more is not told.
    pub(super) done: oneshot::Sender<Result<Vec<Produced>, TransactError>>,
}

/// Gives every record its place; one that has none fails them all.
pub(super) fn place_all(
    catalog: &Catalog,
    records: Vec<NewRecord>,
) -> Result<Vec<Placed>, TransactError> {
    let (mut placed, mut refused) = (Vec::with_capacity(records.len()), Vec::new());
    for (index, record) in records.into_iter().enumerate() {
        match place(catalog, record) {
            Ok(record) => placed.push(record),
            Err(error) => refused.push(Refusal { record: index, error }),
        }
    }
    if refused.is_empty() { Ok(placed) } else { Err(TransactError::Refused(refused)) }
}

/// Who has which transactional id.
#[derive(Debug, Default)]
pub(super) struct Holders(Mutex<HashMap<Arc<str>, Arc<()>>>);

impl Holders {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The holder of a transactional id.
pub(super) struct Holder {
    shared: Arc<Shared>,
    id: Arc<str>,
    token: Arc<()>,
}

impl Holder {
    /// Takes an id from whoever has it.
    pub(super) fn take(shared: Arc<Shared>, id: &str) -> Self {
        let (id, token): (Arc<str>, _) = (id.into(), Arc::new(()));
        shared.holders.lock().insert(id.clone(), token.clone());
        Self { shared, id, token }
    }

    fn holds(&self, holders: &HashMap<Arc<str>, Arc<()>>) -> bool {
        holders.get(&self.id).is_some_and(|token| Arc::ptr_eq(token, &self.token))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let mut holders = self.shared.holders.lock();
        if self.holds(&holders) {
            holders.remove(&self.id);
        }
    }
}

#[async_trait]
impl Transactions for Holder {
    async fn write(&mut self, records: Vec<NewRecord>) -> Result<Vec<Produced>, TransactError> {
        let records = place_all(&self.shared.catalog, records)?;
        let (done, answer) = oneshot::channel();
        {
            // Until it is in the queue, so that nothing of this holder comes after the next one has the id.
            let holders = self.shared.holders.lock();
            if !self.holds(&holders) {
                let taken = format!("another has taken the transactional id {:?}", self.id);
                return Err(TransactError::Fenced(taken));
            }
            let transaction = Transaction { records, commit: None, done };
            if let Err(Refused(request, error)) =
                self.shared.queue.push(Request::Transact(transaction))
            {
                request.fail(&error);
            }
        }
        let gone = "the thread that writes the log is gone";
        answer.await.map_err(|_closed| TransactError::Indefinite(gone.into()))?
    }
}
