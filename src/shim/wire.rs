//! Messages and points in time, as containerd writes them.

use std::time::{SystemTime, UNIX_EPOCH};

use containerd_shim::protos::protobuf::Message;
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::protos::protobuf::well_known_types::timestamp::Timestamp;

use crate::error::{Context, Result};

/// Packs `message`, of the protobuf package `package`.
///
/// The bindings can find the package themselves, but build all their descriptors for it: that
/// would be a third of the memory of an idle shim.
pub fn to_any<M: Message>(package: &str, message: &M) -> Result<Any> {
    Ok(Any {
        type_url: format!("{package}.{}", M::NAME),
        value: message.write_to_bytes().os(|| format!("encode {}", M::NAME))?,
        ..Default::default()
    })
}

/// The time in containerd's terms; the epoch for anything before it.
pub fn to_timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: since.subsec_nanos() as i32,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use containerd_shim::protos::cgroups::metrics::Metrics;
    use containerd_shim::protos::cgroups_v2::metrics::Metrics as MetricsV2;
    use containerd_shim::protos::events::task::{TaskExecAdded, TaskExit};
    use containerd_shim::protos::protobuf::MessageFull;
    use containerd_shim::protos::shim::oci::ProcessDetails;

    use super::*;
    use crate::shim::{events, service, stats};

    fn name<M: MessageFull>(package: &str) {
        let any = to_any(package, &M::default()).unwrap();
        assert_eq!(any.type_url, M::descriptor().full_name());
    }

    #[test]
    fn packages_are_those_of_the_messages() {
        name::<TaskExit>(events::PACKAGE);
        name::<TaskExecAdded>(events::PACKAGE);
        name::<Metrics>(stats::PACKAGE_V1);
        name::<MetricsV2>(stats::PACKAGE_V2);
        name::<ProcessDetails>(service::DETAILS_PACKAGE);
    }
}
