package hint

// statement reads an in-toto statement; predicate, if any, reads its predicate.
func (x *extraction) statement(predicate func(*extraction)) {
	x.object(func(name []byte) {
		switch string(name) {
		case "subject":
			x.subjectList()
		case "predicate":
			if predicate != nil {
				predicate(x)
			}
		case "_type", "predicateType":
			x.text()
		default:
			x.generic()
		}
	})
}

// subjectList reads the subjects of a statement (in-toto attestation, Statement v1).
func (x *extraction) subjectList() {
	x.array(func() {
		before := len(x.products)
		x.descriptor(x.subject)
		x.subjectPurls = append(x.subjectPurls, x.products[before:]...)
	})
}

// descriptor reads a ResourceDescriptor (in-toto attestation, v1) or what came before it:
// {name, uri, digest, downloadLocation, annotations}. each, if any, is called with its digests.
func (x *extraction) descriptor(each func(digest string)) {
	x.object(func(name []byte) {
		switch string(name) {
		case "name", "uri", "downloadLocation":
			x.reference(x.text())
		case "digest":
			x.digestSet(each)
		case "annotations":
			x.generic()
		}
	})
}

// descriptors reads a list of them.
func (x *extraction) descriptors() { x.array(func() { x.descriptor(nil) }) }

// digestSet reads {"sha256": "…"}.
func (x *extraction) digestSet(each func(digest string)) {
	x.object(func(name []byte) {
		alg := string(name)
		if d := x.digest(alg, x.text()); d != "" && each != nil {
			each(d)
		}
	})
}

// hashes reads [{alg, content}], under the names that a format has for them.
func (x *extraction) hashes(alg, value string, each func(digest string)) {
	x.array(func() {
		x.hash(alg, value, each)
	})
}

// hash reads one {alg, content}.
func (x *extraction) hash(alg, value string, each func(digest string)) {
	var a, v []byte
	x.object(func(name []byte) {
		switch string(name) {
		case alg:
			a = x.bytes()
		case value:
			v = x.bytes()
		}
	})
	if len(a) == 0 && len(v) == 0 {
		return
	}
	if d := x.digestOf(a, v); d != "" && each != nil {
		each(d)
	}
}

// wrapped reads a document inside of {"Data": …} or {"signed": …, "signatures": …}.
func (x *extraction) wrapped() {
	x.top(func(name []byte) {
		switch string(name) {
		case "Data", "signed":
			x.nested((*extraction).generic)
		case "signatures":
			x.skip()
		}
	})
}
