//! Events on their way to containerd.

use std::time::{Duration, SystemTime};

use containerd_shim::event::Event;
use containerd_shim::protos::api::ForwardRequest;
use containerd_shim::protos::protobuf::Message;
use containerd_shim::protos::shim::event::Envelope;
use containerd_shim::protos::shim_async::{Client, EventsClient};
use containerd_shim::protos::ttrpc::context;
use log::warn;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::shim::wire::{to_any, to_timestamp};

/// The protobuf package of the events.
pub(super) const PACKAGE: &str = "containerd.events";

/// Pauses between the attempts to deliver an event. Together they outlast a restart of
/// containerd; what is lost after that, containerd learns by asking for the state.
const RETRIES: [Duration; 6] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// An answer that takes longer counts as a failed attempt.
const ANSWER: Duration = Duration::from_secs(5);

enum Item {
    Event(Box<Envelope>),
    Flush(oneshot::Sender<()>),
}

/// Sends events in the order of the calls, without making the caller wait.
#[derive(Clone)]
pub struct Publisher {
    queue: mpsc::UnboundedSender<Item>,
    namespace: String,
}

impl Publisher {
    /// Publishes to the containerd that listens at `address`, connecting with the first event.
    ///
    /// Needs a Tokio runtime.
    pub fn new(address: &str, namespace: &str) -> Self {
        let (queue, items) = mpsc::unbounded_channel();
        let path = address.strip_prefix("unix://").unwrap_or(address);
        tokio::spawn(deliver(format!("unix://{path}"), items));
        Self { queue, namespace: namespace.to_owned() }
    }

    /// Queues `event`.
    pub fn publish(&self, event: impl Event + Message) {
        let topic = event.topic();
        let event = match to_any(PACKAGE, &event) {
            Ok(event) => event,
            Err(error) => return warn!("event {topic} is lost: {error}"),
        };
        let envelope = Envelope {
            timestamp: Some(to_timestamp(SystemTime::now())).into(),
            namespace: self.namespace.clone(),
            topic,
            event: Some(event).into(),
            ..Default::default()
        };
        // The queue ends only with the runtime, when nobody is left to care.
        drop(self.queue.send(Item::Event(Box::new(envelope))));
    }

    /// Waits until everything queued so far was delivered or given up, at most for `limit`.
    pub async fn flush(&self, limit: Duration) {
        let (done, flushed) = oneshot::channel();
        if self.queue.send(Item::Flush(done)).is_ok() && timeout(limit, flushed).await.is_err() {
            warn!("some events were not delivered before the shim ended");
        }
    }
}

async fn deliver(address: String, mut items: mpsc::UnboundedReceiver<Item>) {
    let mut client = None;
    while let Some(item) = items.recv().await {
        match item {
            Item::Event(envelope) => forward(&address, &mut client, *envelope).await,
            // Nobody waits any more if the limit has passed.
            Item::Flush(done) => drop(done.send(())),
        }
    }
}

async fn forward(address: &str, client: &mut Option<EventsClient>, envelope: Envelope) {
    let topic = envelope.topic.clone();
    let request = ForwardRequest { envelope: Some(envelope).into(), ..Default::default() };
    let mut retries = RETRIES.iter();
    loop {
        let failure = match attempt(address, client, &request).await {
            Ok(()) => return,
            Err(failure) => failure,
        };
        // The connection may be half dead: the next attempt makes a new one.
        *client = None;
        match retries.next() {
            Some(pause) => sleep(*pause).await,
            None => return warn!("event {topic} was not delivered to {address}: {failure}"),
        }
    }
}

async fn attempt(
    address: &str,
    client: &mut Option<EventsClient>,
    request: &ForwardRequest,
) -> Result<(), String> {
    let connected = match client {
        Some(connected) => connected,
        None => {
            let connection = Client::connect(address).await.map_err(|error| error.to_string())?;
            client.insert(EventsClient::new(connection))
        }
    };
    match timeout(ANSWER, connected.forward(context::Context::default(), request)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer".to_owned()),
    }
}
