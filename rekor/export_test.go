package rekor

// The two ways in which entries are read.
var (
	ReadFast = readHashedRekordV002
	ReadSlow = readSlow
)
