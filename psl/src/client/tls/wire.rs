//! TLS over a connection of the client library, with the verifier of this project.
//!
//! The library's own TLS takes no verifier. Does not know the content of messages.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use ureq::Error;
use ureq::unversioned::transport::time::{Duration, Instant};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

use super::Trust;

/// Adds TLS to a connection to an `https://` address. Without certificates the library refuses the request.
#[derive(Debug)]
pub(crate) struct Tls(pub Option<Trust>);

impl<In: Transport> Connector<In> for Tls {
    type Out = Either<In, Wire>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else { return Ok(None) };
        match &self.0 {
            Some(trust) if details.needs_tls() => {
                Wire::new(trust.config(), details, transport).map(|wire| Some(Either::B(wire)))
            }
            _ => Ok(Some(Either::A(transport))),
        }
    }
}

/// An encrypted connection.
pub(crate) struct Wire {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire {
    /// Does the handshake, within the time that connecting has left.
    fn new(
        config: Arc<ClientConfig>,
        details: &ConnectionDetails,
        transport: impl Transport,
    ) -> Result<Wire, Error> {
        let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| Error::BadUri(host.to_owned()))?;
        let mut connection = ClientConnection::new(config, name).map_err(std::io::Error::other)?;
        let mut socket = TransportAdapter::new(
            Box::new(transport) as Box<dyn Transport>,
            details.current_time.clone(),
        );
        socket.set_timeout(left(details));
        connection.complete_io(&mut socket)?;
        let buffers = LazyBuffers::new(
            details.config.input_buffer_size(),
            details.config.output_buffer_size(),
        );
        Ok(Wire { buffers, stream: StreamOwned { conn: connection, sock: socket } })
    }
}

fn left(details: &ConnectionDetails) -> NextTimeout {
    let after = match (details.timeout.after, (details.current_time)(), details.now) {
        (Duration::Exact(limit), Instant::Exact(now), Instant::Exact(began)) => {
            Duration::Exact(limit.saturating_sub(now.saturating_duration_since(began)))
        }
        (limit, ..) => limit,
    };
    NextTimeout { after, ..details.timeout }
}

impl Transport for Wire {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        Ok(self.stream.write_all(&self.buffers.output()[..amount])?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
