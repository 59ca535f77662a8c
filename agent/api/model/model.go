// Package model is the nouns of the API, made of its description: what the server
// answers, what its clients send, and what the engine keeps of a migration.
package model
