// js-libp2p 3 wants Node 22 for this one function (it-queue,
// dist/src/recipient.js); with it, Node 20 will do.
Promise.withResolvers ??= function () {
  let resolve, reject
  const promise = new this((yes, no) => { resolve = yes; reject = no })
  return { promise, resolve, reject }
}
