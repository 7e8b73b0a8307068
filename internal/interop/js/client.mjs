// A peer made of stock js-libp2p and nothing else, with the modes and the
// reports of the Go one (../client). It speaks TCP alone: for WebSocket,
// js-libp2p wants Node 22.
//
//   node client.mjs [--security tls|noise] reserve RELAY
//   node client.mjs [--security tls|noise] dial RELAY PEER SIZE
//   node client.mjs [--security tls|noise] hold RELAY PEER
//   node client.mjs [--security tls|noise] ping RELAY PEER
import './node20.mjs'
import { createHash, randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const echoProtocol = '/causeway/interop/echo/1'
const stillOpen = 'the circuit did not end'
const patience = 60_000 // ms: far more than anything here takes
const overCircuit = { runOnLimitedConnection: true }

const { values, positionals: [mode, relay, peer, size] } = parseArgs({
  allowPositionals: true,
  options: { security: { type: 'string' } }
})

const security = { tls: [tls()], noise: [noise()] }[values.security] ?? [tls(), noise()]
let circuits // the transport, for its reservations
const node = await createLibp2p({
  addresses: { listen: [] },
  transports: [tcp(), (parts) => (circuits = circuitRelayTransport()(parts))],
  connectionEncrypters: security,
  streamMuxers: [yamux()],
  // By default no more than 5 connections a second come in from one address,
  // and to js-libp2p all that come over a relay are from there.
  connectionManager: { inboundConnectionThreshold: 1000 },
  services: { identify: identify(), ping: ping(overCircuit) }
})
await node.handle(echoProtocol, echo, overCircuit)

const { version } = JSON.parse(readFileSync(new URL('node_modules/libp2p/package.json', import.meta.url)))

function tell (report) {
  console.log(JSON.stringify({ id: node.peerId.toString(), libp2p: 'js-' + version, ...report }))
}

async function echo (stream) {
  try {
    for await (const data of stream) {
      if (!stream.send(data)) await stream.onDrain()
    }
    await stream.close()
  } catch (err) {
    stream.abort(err)
  }
}

/** Connects to the relay, and waits until identify has told its protocols. */
async function connectRelay () {
  const identified = new Promise((resolve) => node.addEventListener('peer:identify', resolve, { once: true }))
  const { remotePeer: id } = await node.dial(multiaddr(relay), { signal: AbortSignal.timeout(patience) })
  await identified
  return { id, protocols: (await node.peerStore.get(id)).protocols }
}

async function reserve () {
  const { id, protocols } = await connectRelay()
  await node.components.transportManager.listen([multiaddr(relay + '/p2p-circuit')])
  const r = circuits.reservationStore.getReservation(id)
  tell({
    protocols,
    addrs: node.getMultiaddrs().map(String),
    reservation: {
      expires: new Date(Number(r.expire) * 1000),
      addrs: r.addrs.map((a) => multiaddr(a).toString()),
      voucher: r.voucher != null
    }
  })
  for await (const _ of process.stdin); // until the test lets go of us
}

/** What went wrong, and the relay's word for it, which js-libp2p has in texts only. */
function fault (err) {
  const error = [err, ...(err.errors ?? [])].map((e) => e instanceof Event ? e.type : String(e)).join('; ')
  return { error, refused: error.match(/(?:failed to connect via relay|reservation failed) with status ([A-Z_]+)/)?.[1] }
}

/** Opens a circuit, does something with it and reports. */
async function withCircuit (use) {
  const report = {}
  try {
    report.protocols = (await connectRelay()).protocols
    const conn = await node.dial(multiaddr(`${relay}/p2p-circuit/p2p/${peer}`), { signal: AbortSignal.timeout(patience) })
    report.circuit = { limited: conn.limits != null, remote: conn.remoteAddr.toString() }
    await use(conn, report.circuit)
  } catch (err) {
    Object.assign(report, fault(err))
  }
  tell(report)
}

const dial = () => withCircuit(async (conn, out) => {
  const stream = await conn.newStream(echoProtocol, { ...overCircuit, signal: AbortSignal.timeout(patience) })
  const sent = createHash('sha256')
  const got = createHash('sha256')
  out.sent = out.received = 0
  const write = async () => {
    while (out.sent < Number(size)) {
      const data = randomBytes(Math.min(Number(size) - out.sent, 65536))
      sent.update(data)
      out.sent += data.length
      if (!stream.send(data)) await stream.onDrain({ signal: AbortSignal.timeout(patience) })
    }
    await stream.close()
  }
  const read = async () => {
    for await (const data of stream) {
      const bytes = data.subarray()
      got.update(bytes)
      out.received += bytes.length
    }
  }
  // A stream may wait for ever whose circuit was ended while it was written to.
  const late = new Promise((resolve, reject) => AbortSignal.timeout(patience / 2).addEventListener('abort', () => {
    reject(new Error(conn.status === 'open' ? stillOpen : 'the circuit ended, and its stream did not'))
  }))
  await Promise.race([Promise.all([write(), read()]), late])
  out.equal = out.received === Number(size) && sent.digest('hex') === got.digest('hex')
})

const hold = () => withCircuit(async (conn, out) => {
  if (conn.status === 'open') {
    await new Promise((resolve, reject) => {
      conn.addEventListener('close', resolve, { once: true })
      AbortSignal.timeout(patience).addEventListener('abort', () => reject(new Error(stillOpen)))
    })
  }
  out.ended = true
})

const pingPeer = () => withCircuit(async (conn, out) => {
  await node.services.ping.ping(conn.remotePeer, { signal: AbortSignal.timeout(patience) })
  out.pinged = true
})

try {
  await { reserve, dial, hold, ping: pingPeer }[mode]()
} catch (err) {
  tell(fault(err))
}
process.exit(0) // stopping politely takes seconds
