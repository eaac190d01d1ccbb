package release

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"flywheel/internal/platform/canon"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/file"
)

// PayloadType is the DSSE payload type of an in-toto statement.
const PayloadType = "application/vnd.in-toto+json"

// MediaTypeEnvelope is the media type of a DSSE envelope as an OCI layer.
const MediaTypeEnvelope = "application/vnd.dsse.envelope.v1+json"

// Envelope is a DSSE envelope (secure-systems-lab/dsse, envelope.md).
type Envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     string      `json:"payload"` // base64
	Signatures  []Signature `json:"signatures"`
}

// Signature is one signature of an envelope.
type Signature struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"` // base64
}

// pae is the pre-authentication encoding of DSSE (protocol.md): what is really signed.
func pae(payloadType string, payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}

// Key signs releases: ed25519, kept in a file that only its owner reads.
type Key struct {
	private ed25519.PrivateKey
	id      string
}

// OpenKey reads the signing key from a PEM file (PKCS #8) and creates it at first use. A key that others
// can read is refused with code release.key_open.
func OpenKey(path string) (*Key, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if b, err = createKey(path); err == nil {
			return parseKey(b)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read signing key: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read signing key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fault.New(fault.Forbidden, "release.key_open", "the signing key %s can be read by others (mode %04o)",
			path, info.Mode().Perm()).WithHint("chmod 600 %s", path)
	}
	return parseKey(b)
}

// createKey writes a new key and gives what is at path afterwards: a process that came first wins.
func createKey(path string) ([]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	return file.Create(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

func parseKey(b []byte) (*Key, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fault.New(fault.Invalid, "release.key_damaged", "the signing key is not a PEM private key")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "release.key_damaged", "the signing key cannot be read")
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fault.New(fault.Invalid, "release.key_damaged", "the signing key is not ed25519")
	}
	return NewKey(private)
}

// NewKey is a signing key held in memory.
func NewKey(private ed25519.PrivateKey) (*Key, error) {
	id, err := keyID(private.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	return &Key{private: private, id: id}, nil
}

// ID is the sha256 of the public key in PKIX form, in hexadecimal.
func (k *Key) ID() string { return k.id }

// Public is the public half.
func (k *Key) Public() ed25519.PublicKey { return k.private.Public().(ed25519.PublicKey) }

// PublicPEM is the public half as a file that others verify with.
func (k *Key) PublicPEM() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// ParsePublic reads what PublicPEM wrote.
func ParsePublic(b []byte) (ed25519.PublicKey, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("not a PEM file")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	public, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("not an ed25519 key")
	}
	return public, nil
}

func keyID(public ed25519.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// sign wraps a payload; ed25519 is deterministic, so equal payloads give equal envelopes.
func (k *Key) sign(payload []byte) ([]byte, error) {
	return canon.JSON(Envelope{
		PayloadType: PayloadType,
		Payload:     base64.StdEncoding.EncodeToString(payload),
		Signatures: []Signature{{
			KeyID: k.id,
			Sig:   base64.StdEncoding.EncodeToString(ed25519.Sign(k.private, pae(PayloadType, payload))),
		}},
	})
}

// openEnvelope gives the payload when a trusted key signed it, and that key's id.
func openEnvelope(b []byte, trusted map[string]ed25519.PublicKey) (payload []byte, signedBy string, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var e Envelope
	if err := d.Decode(&e); err != nil {
		return nil, "", fmt.Errorf("read envelope: %w", err)
	}
	if e.PayloadType != PayloadType {
		return nil, "", fmt.Errorf("the payload type is %q", e.PayloadType)
	}
	if payload, err = base64.StdEncoding.DecodeString(e.Payload); err != nil {
		return nil, "", fmt.Errorf("read payload: %w", err)
	}
	if len(e.Signatures) == 0 {
		return nil, "", errors.New("nobody signed it")
	}
	for _, s := range e.Signatures {
		public, known := trusted[s.KeyID]
		if !known {
			err = fmt.Errorf("the key %.12s… is not trusted here", s.KeyID)
			continue
		}
		raw, decodeErr := base64.StdEncoding.DecodeString(s.Sig)
		if decodeErr != nil || !ed25519.Verify(public, pae(e.PayloadType, payload), raw) {
			err = fmt.Errorf("the signature by key %.12s… does not fit the content", s.KeyID)
			continue
		}
		return payload, s.KeyID, nil
	}
	return nil, "", err
}
