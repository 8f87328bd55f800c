package lodge

import "time"

// State is the state of a delivery (docs/architecture.md, "The way of a delivery").
type State string

// The states of a delivery.
const (
	Queued   State = "queued"   // accepted; nothing of it is on its way
	Sending  State = "sending"  // an intent is committed; bytes may have left
	Unknown  State = "unknown"  // the target may or may not have it: it is asked before anything is sent
	Placed   State = "placed"   // the target says that it has it; not proven yet
	Verified State = "verified" // there, and proven
	Failed   State = "failed"   // failed for good, until somebody queues it again
)

// Live tells whether the engine still works on a delivery in state s.
func (s State) Live() bool { return s != Verified && s != Failed }

// Submission is one verified envelope as the store keeps it.
type Submission struct {
	Key      Key
	Signer   Signer
	Raw      []byte   // the incoming bytes, never rewritten: a DSSE envelope or a Sigstore bundle
	SPKI     []byte   // DER of the public key that verified it; nil where a certificate in Raw did
	Subjects []Digest // the statement's SHA-256 subjects, sorted; empty where it is no statement

	// Timestamps are RFC 3161 TimeStampResp over the signature that counted, in DER, that
	// were taken when it was accepted; those in Raw are not repeated.
	Timestamps [][]byte
	Scopes     []string // given by the submitter
	Hints      Hints    // of its payload
}

// Delivery is one envelope's way to one target, for a repository to one subject there.
// It is unique by (key, signer, target, subject).
type Delivery struct {
	ID       int64
	Envelope int64 // the store's id of the envelope
	Key      Key
	Signer   Signer
	Target   Target
	Subject  Digest // zero for a log
	State    State
	Attempt  int       // the fencing token: it grows with each claim, and with what takes a claim away
	Sends    int       // how often a send was written ahead; bytes may not have left each time
	Adopted  bool      // the entry or artifact was there without this store's doing
	Due      time.Time // of the next attempt; while one is under way, the end of its lease; zero: it is over, or waits for what it requires
	Accepted time.Time // by the clock of the process that accepted it
	Since    time.Time // when it was queued, or what it requires was verified
	Receipt  *Receipt  // set in Placed (perhaps without proof) and Verified
	Err      *Error    // why the last attempt did not succeed
}

// Address says where d goes, the same on every machine: the target's address, for a
// repository with the subject behind it.
func (d Delivery) Address() string {
	if d.Subject.IsZero() {
		return d.Target.Address
	}
	return d.Target.Address + "@" + d.Subject.String()
}

// Intent is what is committed before the first byte leaves (promise 4): all that is
// needed to ask later whether it arrived.
type Intent struct {
	Request   []byte `json:"request,omitempty"`   // log: the body of the request. repository: the bundle
	LeafHash  Digest `json:"leafHash,omitzero"`   // log: RFC 6962 leaf hash of the entry
	EntryUUID string `json:"entryUUID,omitempty"` // v1 log: tree id and leaf hash in hex
	Manifest  Digest `json:"manifest,omitzero"`   // repository: digest of the manifest
	LogID     string `json:"logId,omitempty"`     // log: of the shard, hex
	ReadURL   string `json:"readURL,omitempty"`   // log: where that shard is read
	TreeSize  int64  `json:"treeSize,omitempty"`  // log: size under which the entry was proven absent, EmptyTree for 0; 0: not known
}

// EmptyTree is the TreeSize of an intent that was sent to a tree without leaves.
const EmptyTree = -1

// Transition is one step of a delivery's history.
type Transition struct {
	Attempt int       `json:"attempt"`
	From    State     `json:"from,omitempty"`
	To      State     `json:"to"`
	Time    time.Time `json:"time"`
	Intent  *Intent   `json:"intent,omitempty"`
	Error   *Error    `json:"error,omitempty"`
}

// Order asks for one delivery of a submission.
type Order struct {
	Target   Target
	Subject  Digest // for a repository
	Requires []int  // earlier orders of the same submission that must be verified before this one starts
}

// Accepted is what became of an Order.
type Accepted struct {
	Delivery
	New      bool // this call made the delivery
	Requeued bool // it had failed, and this call queued it again
}

// Duplicate tells whether the entry or artifact is there without the call that returned a.
func (a Accepted) Duplicate() bool { return a.Adopted || !a.New && !a.Requeued }

// Change is one transition of a delivery. The store applies it only while the delivery
// is still in state From under the same Attempt, and writes the history row and the
// events in the same transaction.
type Change struct {
	Delivery         // as it is to be: State, Due, Receipt, Err, Adopted
	From     State   // as it must be
	Intent   *Intent // written ahead of a send, in the change to Sending
	Entry    *Entry  // the log entry in full, where there is one
	Bundle   []byte  // the bundle that was found, where it carries another signature than ours
	Events   []Event
}

// Pick says which of the due deliveries to a target a claim takes, oldest first.
type Pick string

// What a claim may take.
const (
	PickDue      Pick = "due"      // all; none while the target is held
	PickDoubtful Pick = "doubtful" // those of which something was sent, and not proven to be there; none while the target is held
	PickHeld     Pick = "held"     // all, while the target is held: to see whether it takes again
)

// Job is a claimed delivery with all that an attempt needs.
type Job struct {
	Delivery
	Size       int        // bytes of the submission, known before it is loaded
	Lease      time.Time  // no request goes out after it
	Probe      bool       // it was taken from a held target, to see whether that takes again
	Submission Submission // what was accepted
	Intent     *Intent    // of an earlier attempt, whose bytes are used again
	Required   []Proof    // of the deliveries that it requires
	Siblings   []Delivery // for a log, those of the envelope to repositories, whose key tags may know the entry
}

// Proof is what a verified log delivery gives to the deliveries that require it.
type Proof struct {
	Target Target
	Entry  Entry
	Bundle []byte // where the entry carries another signature than the submission's
}
