//! TLS over a connection of the client library, because the library's own TLS takes no verifier.

use std::fmt;
use std::io::{Read as _, Write as _};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use ureq::Error;
use ureq::unversioned::transport::time::{Duration, Instant};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

use super::Trust;

/// Adds TLS to connections to `https://`. Without certificates the library refuses the request.
#[derive(Debug)]
pub(crate) struct TlsConnector(pub Option<Trust>);

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else { return Ok(None) };
        match &self.0 {
            Some(trust) if details.needs_tls() => {
                Ok(Some(Either::B(TlsTransport::new(trust, details, transport)?)))
            }
            _ => Ok(Some(Either::A(transport))),
        }
    }
}

pub(crate) struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTransport")
    }
}

impl TlsTransport {
    /// Does the handshake in the rest of the connect timeout.
    fn new(
        trust: &Trust,
        details: &ConnectionDetails,
        transport: impl Transport,
    ) -> Result<TlsTransport, Error> {
        let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| Error::BadUri(host.to_owned()))?;
        let mut conn =
            ClientConnection::new(trust.config.clone(), name).map_err(std::io::Error::other)?;
        let transport: Box<dyn Transport> = Box::new(transport);
        let mut sock = TransportAdapter::new(transport, details.current_time.clone());
        sock.set_timeout(remaining_timeout(details));
        conn.complete_io(&mut sock)?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(TlsTransport { buffers, stream: StreamOwned { conn, sock } })
    }
}

fn remaining_timeout(details: &ConnectionDetails) -> NextTimeout {
    let after = match (details.timeout.after, (details.current_time)(), details.now) {
        (Duration::Exact(limit), Instant::Exact(now), Instant::Exact(began)) => {
            Duration::Exact(limit.saturating_sub(now.saturating_duration_since(began)))
        }
        (limit, ..) => limit,
    };
    NextTimeout { after, ..details.timeout }
}

impl Transport for TlsTransport {
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
