package lodge

// Receipt is the proof that a delivery arrived: the log's part or the repository's.
type Receipt struct {
	Log *LogReceipt `json:"log,omitempty"`
	OCI *OCIReceipt `json:"oci,omitempty"`
}

// LogReceipt says where in which log an entry is, and proves it.
type LogReceipt struct {
	Origin         string          `json:"origin"`                   // first line of the log's checkpoints
	LogID          string          `json:"logId"`                    // hex
	LogIndex       int64           `json:"logIndex"`                 // v1: over all shards
	EntryUUID      string          `json:"entryUUID,omitempty"`      // v1
	LeafHash       Digest          `json:"leafHash"`                 // RFC 6962 section 2.1
	IntegratedTime int64           `json:"integratedTime,omitempty"` // v1: seconds since 1970
	InclusionProof *InclusionProof `json:"inclusionProof,omitempty"` // absent while the log only promised it
}

// InclusionProof proves that a leaf is in the tree that a checkpoint commits to
// (RFC 6962 section 2.1.1).
type InclusionProof struct {
	LogIndex   int64    `json:"logIndex"` // v1: inside the shard
	TreeSize   int64    `json:"treeSize"`
	RootHash   Digest   `json:"rootHash"`
	Hashes     []Digest `json:"hashes"`
	Checkpoint string   `json:"checkpoint"` // the signed note, as served
}

// OCIReceipt says where in which registry an artifact is.
type OCIReceipt struct {
	Reference string `json:"reference"` // registry/repository@digest
	Digest    Digest `json:"digest"`    // of the manifest
	Subject   Digest `json:"subject"`   // of the image that it is attached to
}

// Entry is a transparency log entry in full: what a Sigstore bundle says of it.
type Entry struct {
	Kind    string     `json:"kind"`          // "hashedrekord", "dsse", "intoto"
	Version string     `json:"version"`       // of the kind: "0.0.1", "0.0.2"
	Body    []byte     `json:"body"`          // canonicalized body; the leaf is exactly these bytes
	SET     []byte     `json:"set,omitempty"` // v1: signed entry timestamp
	Receipt LogReceipt `json:"receipt,omitzero"`
}
