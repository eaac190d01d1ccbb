package release

// PAE is what a DSSE signature is over.
var PAE = pae

// OpenEnvelope reads an envelope with trusted keys.
var OpenEnvelope = openEnvelope
