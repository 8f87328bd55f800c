package hint

func isOSV(s shape) bool {
	return s.has("id") && (s.has("affected") || s.has("aliases")) && (s.has("modified") || s.has("schema_version")) ||
		kindOf(s["results"]) == '[' && (s.has("experimental_config") || s.has("results"))
}

// osv reads a record of an OSV database, or a report of osv-scanner (OSV schema 1.x).
func (x *extraction) osv() {
	if x.peek() == '[' {
		x.array(x.osv)
		return
	}
	x.top(func(name []byte) {
		if string(name) == "results" {
			x.objects(x.osvResult)
		} else {
			x.osvRecord(name)
		}
	})
}

func (x *extraction) osvResult(name []byte) {
	if string(name) != "packages" {
		return
	}
	x.objects(func(name []byte) {
		switch string(name) {
		case "package":
			x.object(x.osvPackage)
		case "vulnerabilities":
			x.objects(x.osvRecord)
		case "groups":
			x.objects(func(name []byte) {
				switch string(name) {
				case "ids", "aliases":
					x.texts(func(s string) { x.vuln(s) })
				}
			})
		}
	})
}

func (x *extraction) osvRecord(name []byte) {
	switch string(name) {
	case "id":
		x.vuln(x.text())
	case "aliases", "upstream", "related":
		x.texts(func(s string) { x.vuln(s) })
	case "affected":
		x.objects(func(name []byte) {
			switch string(name) {
			case "package":
				x.object(x.osvPackage)
			case "ranges":
				x.objects(func(name []byte) {
					if string(name) == "repo" {
						x.repo(x.text())
					}
				})
			}
		})
	}
}

func (x *extraction) osvPackage(name []byte) {
	switch string(name) {
	case "name":
		x.component("", x.text())
	case "purl":
		if s := x.text(); s != "" {
			x.purl(s)
		}
	}
}
