use std::path::Path;

use crate::Error;

/// Keys in Z85, as in the files that `gateway keys` makes.
#[derive(Clone, Debug)]
pub struct Curve {
    pub public_key: String,
    pub secret_key: String,
    /// To connect: the gateway's public key. To bind: those of all gateways that may connect.
    pub gateways: Vec<String>,
}

impl Curve {
    /// Read this publisher's key file, NAME.key_secret, and the gateways', NAME.key.
    pub fn from_files(own: impl AsRef<Path>, gateways: &[impl AsRef<Path>]) -> Result<Self, Error> {
        let gateways = gateways.iter().map(|path| read(path.as_ref(), "public-key")).collect::<Result<_, _>>()?;
        let (public_key, secret_key) = (read(own.as_ref(), "public-key")?, read(own.as_ref(), "secret-key")?);
        Ok(Self { public_key, secret_key, gateways })
    }
}

fn read(path: &Path, name: &str) -> Result<String, Error> {
    let text = std::fs::read_to_string(path).map_err(|error| Error(format!("{}: {error}", path.display())))?;
    text.lines()
        .filter_map(|line| line.trim().strip_prefix(name)?.trim().strip_prefix('=')?.trim().strip_prefix('"'))
        .filter_map(|rest| rest.split('"').next())
        .find(|key| key.len() == 40)
        .map(str::to_owned)
        .ok_or_else(|| Error(format!("{} holds no {name}", path.display())))
}

pub fn serve(socket: &zmq::Socket, curve: &Curve) -> Result<(), Error> {
    socket.set_curve_server(true)?;
    socket.set_curve_secretkey(&key(&curve.secret_key)?)?;
    Ok(socket.set_zap_domain("bus")?)
}

pub fn approach(socket: &zmq::Socket, curve: &Curve) -> Result<(), Error> {
    let [gateway] = &curve.gateways[..] else {
        return Err(Error("curve.gateways: to connect, name one gateway's key".to_owned()));
    };
    socket.set_curve_serverkey(&key(gateway)?)?;
    socket.set_curve_publickey(&key(&curve.public_key)?)?;
    Ok(socket.set_curve_secretkey(&key(&curve.secret_key)?)?)
}

fn key(text: &str) -> Result<Vec<u8>, Error> {
    match zmq::z85_decode(text) {
        Ok(bytes) if bytes.len() == 32 => Ok(bytes),
        _ => Err(Error("curve: a key has 40 characters of Z85".to_owned())),
    }
}

/// Answer ZeroMQ's requests whether a gateway may connect (ZAP, ZeroMQ RFC 27); return how many were refused.
pub fn guard(socket: &zmq::Socket, curve: &Curve) -> u64 {
    let mut refused = 0;
    while let Ok(request) = socket.recv_multipart(zmq::DONTWAIT) {
        let Some(key) = request.get(8).and_then(|key| zmq::z85_encode(key).ok()) else { continue };
        let is_known = curve.gateways.contains(&key);
        let status: [&[u8]; 2] = if is_known { [b"200", b"OK"] } else { [b"400", b"unknown key"] };
        let mut answer = request[..4].to_vec(); // the identity, an empty frame, the version, the request's number
        answer.extend(status.map(<[u8]>::to_vec));
        answer.extend([Vec::new(), Vec::new()]);
        let _ = socket.send_multipart(answer, zmq::DONTWAIT);
        refused += u64::from(!is_known);
    }
    refused
}
