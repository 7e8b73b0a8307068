// Package check holds the Kubernetes manifests beside it to the API's schema and
// to what a relay needs. It is tests only: make manifests.
//
// Nothing is asked of the network: the schema is the one that client-go's module
// carries, of which everything that the manifests use is part.
package check
