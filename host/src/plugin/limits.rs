//! What one instance may hold: the answer to every growth it asks for.
//!
//! Time is not here: `instance` bounds a call by its wall time, and the engine's epoch makes a busy guest yield.

use wasmtime::ResourceLimiter;

use crate::handler::Failure;

/// Elements of one table; as many as the engine's pool has room for.
pub(super) const TABLE_ELEMENTS: usize = 20_000;
/// Handles of the host's things (streams, pollables) that one instance may hold at once: each takes some of the host's
/// own memory.
pub(super) const HANDLES: usize = 4096;
/// Random bytes of one request: the host makes them before the guest has room for them.
pub(super) const RANDOM_BYTES: u64 = 1 << 20;
/// Core instances, tables and memories of one component instance. A language runtime has about ten.
const PARTS: usize = 100;

/// Bounds the memory of one instance, all its linear memories and what the host holds for it together, and each of its
/// tables.
#[derive(Debug)]
pub(super) struct Limiter {
    limit: u64,
    used: u64,
    refused: Option<Failure>,
}

impl Limiter {
    /// A limiter for `limit` bytes.
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, used: 0, refused: None }
    }

    /// The growth that was refused since the last [`forget`](Self::forget): what follows it is its consequence. Most
    /// allocators trap on a refusal, and the trap alone would not tell why.
    pub(super) fn refused(&self) -> Option<&Failure> {
        self.refused.as_ref()
    }

    /// Bytes that it has.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Counts `bytes` that the host holds for the guest; those that are refused are not counted.
    pub(super) fn take(&mut self, bytes: u64) -> Result<(), Failure> {
        let used = self.used.saturating_add(bytes);
        if used > self.limit {
            self.refused = Some(Failure::Memory(self.limit));
            return Err(Failure::Memory(self.limit));
        }
        self.used = used;
        Ok(())
    }

    /// Counts `bytes` no more, which were [taken](Self::take).
    pub(super) fn give_back(&mut self, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
    }

    /// Called before each call: a guest that lived with a refusal is not blamed for it later.
    pub(super) fn forget(&mut self) {
        self.refused = None;
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.take((desired - current) as u64).is_ok())
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > TABLE_ELEMENTS {
            let limit = TABLE_ELEMENTS as u64;
            self.refused = Some(Failure::Held { what: "elements of a table", limit });
            return Ok(false);
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        PARTS
    }

    fn tables(&self) -> usize {
        PARTS
    }

    fn memories(&self) -> usize {
        PARTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_of_one_instance_share_one_bound() {
        let mut limiter = Limiter::new(100);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(!limiter.memory_growing(0, 60, None).unwrap());
        assert_eq!(limiter.refused(), Some(&Failure::Memory(100)));
        assert!(limiter.memory_growing(60, 100, None).unwrap(), "a refusal takes nothing");
    }

    #[test]
    fn what_the_host_holds_for_a_guest_is_memory_of_its() {
        let mut limiter = Limiter::new(100);
        limiter.take(60).unwrap();
        assert!(!limiter.memory_growing(0, 60, None).unwrap());
        assert_eq!(limiter.take(41), Err(Failure::Memory(100)));
        limiter.give_back(60);
        assert!(limiter.memory_growing(0, 100, None).unwrap());
    }

    #[test]
    fn a_refusal_is_forgotten_with_the_call_it_belongs_to() {
        let mut limiter = Limiter::new(1);
        assert!(!limiter.memory_growing(0, 2, None).unwrap());
        limiter.forget();
        assert_eq!(limiter.refused(), None);
    }
}
