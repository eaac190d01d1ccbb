package deploy

// ParseShare reads the flag --canary.
var ParseShare = parseShare

// OnCanary says on which side a session is.
var OnCanary = onCanary

// Speakers tells whose words are the reply.
var Speakers = speakers
