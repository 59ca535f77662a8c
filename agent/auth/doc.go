// Package auth decides who may do what on the appliances that share a store. It
// serves no HTTP: an API hands it what a request carries, and gets a Principal or an
// error.
//
// Words:
//
//   - Role: viewer, operator or admin, each of which may do what those before it may.
//   - Principal: somebody who has proved who they are, with a role, for one request.
//   - User: a person with a password, kept here. Session: of a person at the console.
//   - Token: what a program shows. It has no more rights than its owner, and ends with
//     them, if they are a user or a certificate.
//   - Certificate: a client's key, known by the SHA-256 of its SubjectPublicKeyInfo.
//   - Provider: of OpenID Connect, that vouches for people instead.
//   - First code: makes the first admin of an appliance that nobody has access to.
//
// # What is kept, and how soon a change holds
//
// Users, certificates and the first code are one record, so that what must hold of all
// of them (an admin stays, the code is used once) holds by one compare-and-swap, from
// whichever appliance. Each session and each token is a record of its own. Passwords are
// kept as argon2id, codes, tokens and sessions as SHA-256 of 100 random bits at least.
//
// Sessions and tokens are read from the store with each request: one that is ended or
// revoked is refused everywhere as soon as the store says so. The record of users and
// certificates is read again when it is older than two seconds, counted from before it
// was read; changes made by this appliance hold at once. What lasts longer than a request
// asks Recheck every few seconds. Log-ins, and changes to users, certificates and tokens,
// read anew: an admin who was removed cannot use those two seconds to stay. Without a
// store nobody gets in, but over the socket.
//
// # What is bounded
//
// Users and certificates 256 each, tokens 1000, sessions 16 a person, passwords hashed
// one at a time (64 MiB each) with 32 waiting.
//
// Attempts to log in are counted before they are tried:
//
//   - an address (of IPv6 a network of 64 bits) has 10 attempts, and one more each 6 s;
//   - a person has, from an address, 3 wrong passwords, then waits 1 s and after each
//     further one twice as long, 5 minutes at most, until half an hour has passed;
//   - a person has 30 attempts from all addresses together, and one more each 2 s, but
//     those from an address that they have logged in from do not count.
//
// So nobody locks a person out from elsewhere: one address cannot use up what a person
// has, and many can only hold up those who come from where they never were. What logs in
// gives its attempt back. Sockets, certificates and tokens are not limited. The counts
// are this appliance's own and gone with its end.
//
// # What is recorded
//
// These actions, done, refused or failed: login, logout, code.make, code.use, user.create,
// user.role, user.password, user.disable, user.enable, user.logout, user.remove,
// token.create, token.revoke, certificate.add, certificate.remove, certificate.seed; and
// when they are refused, token.use and certificate.use. Of refusals that cost a stranger
// nothing, an address has 10 recorded, and one more each 6 s.
package auth
