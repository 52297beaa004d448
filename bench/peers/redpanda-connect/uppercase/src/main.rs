//! What `plugins/uppercase` does, as a Redpanda data transform.

use redpanda_transform_sdk::{BorrowedRecord, RecordWriter, WriteEvent, on_record_written};

fn main() {
    on_record_written(uppercase);
}

fn uppercase(
    event: WriteEvent,
    writer: &mut RecordWriter,
) -> Result<(), Box<dyn std::error::Error>> {
    let value = event.record.value().map(std::str::from_utf8).transpose()?.map(str::to_uppercase);
    writer.write(BorrowedRecord::new(event.record.key(), value.as_deref().map(str::as_bytes)))?;
    Ok(())
}
