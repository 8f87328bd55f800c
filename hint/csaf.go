package hint

import (
	"slices"
	"strings"
	"time"
)

func isCSAF(s shape) bool {
	return kindOf(s["document"]) == '{' && shaped(s["document"]).has("csaf_version")
}

// An advisory is a CSAF document in reading (OASIS CSAF 2.0 and 2.1). Its vulnerabilities
// refer to the product tree, which may come after them.
type advisory struct {
	*extraction
	namespace, publisher, tracking string
	products                       map[string][]string // product keys by product_id
	groups                         map[string][]string // groups that a product_id is in
	statuses                       []productStatus
}

// A productStatus is a status of one product, with the flags of its vulnerability.
type productStatus struct {
	vuln, status, product string
	at                    time.Time
	flags                 *flags
}

// flags are the justifications of one vulnerability.
type flags struct {
	products, groups map[string]string // label by product_id and group_id
}

func (x *extraction) csaf() {
	a := &advisory{extraction: x, products: map[string][]string{}, groups: map[string][]string{}}
	x.top(func(name []byte) {
		switch string(name) {
		case "document":
			a.document()
		case "product_tree":
			a.tree()
		case "vulnerabilities":
			x.array(a.vulnerability)
		}
	})
	a.resolve()
}

func (a *advisory) document() {
	a.object(func(name []byte) {
		switch string(name) {
		case "publisher":
			a.object(func(name []byte) {
				switch string(name) {
				case "namespace":
					a.namespace = a.text()
				case "name":
					a.publisher = a.text()
				}
			})
		case "tracking":
			a.object(func(name []byte) {
				switch string(name) {
				case "id":
					a.tracking = a.text()
				case "version":
					a.revision = a.scalar()
				case "current_release_date":
					a.issued = parseTime(a.text())
				}
			})
		}
	})
	a.author = a.namespace
	if a.author == "" {
		a.author = a.publisher
	}
	a.advisory(a.tracking)
}

// tree reads the product tree.
func (a *advisory) tree() {
	a.object(func(name []byte) {
		switch string(name) {
		case "branches":
			a.array(a.branch)
		case "full_product_names":
			a.array(a.fullName)
		case "relationships":
			a.objects(func(name []byte) {
				if string(name) == "full_product_name" {
					a.fullName()
				}
			})
		case "product_groups":
			a.array(a.group)
		}
	})
}

func (a *advisory) branch() {
	var category, label string
	a.object(func(name []byte) {
		switch string(name) {
		case "category":
			category = a.text()
		case "name":
			label = a.text()
		case "branches":
			a.array(a.branch)
		case "product":
			a.fullName()
		}
	})
	if category == "product_name" {
		a.component("", label)
	}
}

// fullName reads {product_id, name, product_identification_helper}.
func (a *advisory) fullName() {
	var id string
	var purls, cpes []string
	a.object(func(name []byte) {
		switch string(name) {
		case "product_id":
			id = a.text()
		case "product_identification_helper":
			purls, cpes = a.helper()
		}
	})
	if len(purls) == 0 {
		purls = cpes
	}
	if id != "" && len(purls) > 0 {
		a.products[id] = append(a.products[id], purls...)
	}
}

func (a *advisory) helper() (purls, cpes []string) {
	a.object(func(name []byte) {
		switch string(name) {
		case "purl", "purls":
			a.texts(func(s string) { purls = append(purls, nonempty(a.product(s))...) })
		case "cpe":
			cpes = nonempty(a.product(a.text()))
		case "hashes":
			a.objects(func(name []byte) {
				if string(name) == "file_hashes" {
					a.hashes("algorithm", "value", a.subject)
				}
			})
		case "x_generic_uris":
			a.objects(func(name []byte) {
				if string(name) == "uri" {
					a.product(a.text())
				}
			})
		}
	})
	return purls, cpes
}

func (a *advisory) group() {
	var id string
	var members []string
	a.object(func(name []byte) {
		switch string(name) {
		case "group_id":
			id = a.text()
		case "product_ids":
			a.texts(func(s string) { members = append(members, s) })
		}
	})
	for _, m := range members {
		a.groups[m] = append(a.groups[m], id)
	}
}

func (a *advisory) vulnerability() {
	var main string
	var ids []string
	var productStatuses []productStatus
	f := &flags{map[string]string{}, map[string]string{}}
	a.object(func(name []byte) {
		switch string(name) {
		case "cve":
			main = a.vuln(a.text())
		case "ids":
			a.objects(func(name []byte) {
				if string(name) == "text" {
					ids = append(ids, a.text())
				}
			})
		case "product_status":
			a.object(func(name []byte) {
				status := string(name)
				a.texts(func(id string) {
					productStatuses = append(productStatuses, productStatus{status: status, product: id, flags: f})
				})
			})
		case "flags":
			a.array(func() { a.flag(f) })
		}
	})
	slices.Sort(ids)
	for _, id := range ids {
		if known, n := vulnAt(id, 0); n > 0 && n == len(id) {
			id = a.vuln(known)
		} else if a.advisory(id); strings.Contains(id, "://") {
			continue
		}
		if main == "" {
			main = bounded(escape(trim(id)), maxValue)
		}
	}
	claims := 0
	for _, s := range productStatuses {
		if s.vuln = main; statuses[s.status] != "" {
			a.statuses = append(a.statuses, s)
			claims++
		}
	}
	if claims == 0 || main == "" {
		a.issue("no-claim", main)
	}
}

// flag reads {label, product_ids, group_ids}.
func (a *advisory) flag(f *flags) {
	var label string
	var products, groups []string
	a.object(func(name []byte) {
		switch string(name) {
		case "label":
			label = a.text()
		case "product_ids":
			a.texts(func(s string) { products = append(products, s) })
		case "group_ids":
			a.texts(func(s string) { groups = append(groups, s) })
		}
	})
	for _, id := range products {
		least(f.products, id, label)
	}
	for _, id := range groups {
		least(f.groups, id, label)
	}
}

// least keeps the first label in order, so that the order of flags says nothing.
func least(labels map[string]string, id, label string) {
	if old, ok := labels[id]; !ok || label < old {
		labels[id] = label
	}
}

// resolve turns product ids into product keys. An id is local to its document.
func (a *advisory) resolve() {
	for _, s := range a.statuses {
		label := s.flags.products[s.product]
		if groups := a.groups[s.product]; label == "" && len(s.flags.groups) > 0 {
			a.spend(len(groups))
			for _, g := range groups {
				if l := s.flags.groups[g]; l != "" && (label == "" || l < label) {
					label = l
				}
			}
		}
		keys := a.products[s.product]
		if len(keys) == 0 {
			keys = []string{a.other("csaf:" + escape(a.namespace) + ":" + escape(a.tracking) + "#" + escape(s.product))}
		}
		if !a.room(len(keys)) {
			return
		}
		for _, key := range keys {
			a.claim(s.vuln, key, s.status, label, s.at)
		}
	}
}
