package localssm

import "maps"

// Values returns the values of every version of a SecureString or String that is kept, oldest first, and
// none for a parameter that is not there. Nothing is counted as a call or a decryption.
func (s *Server) Values(name string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.parameters[s.canonical(name)]
	if p == nil {
		return nil
	}
	var all []string
	for _, v := range p.versions {
		value := v.value
		if v.kind == secureString {
			value = v.key.decrypt(value, s.parameterARN(p.name))
		}
		all = append(all, value)
	}
	return all
}

// A Description is the metadata of a parameter's newest value.
type Description struct {
	Type  string
	Tier  string
	KeyID string
	Tags  map[string]string
}

// Description returns the metadata of a parameter, zero if it is not there.
func (s *Server) Description(name string) Description {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.parameters[s.canonical(name)]
	if p == nil {
		return Description{}
	}
	v := p.latest()
	return Description{v.kind, v.tier, v.keyID, maps.Clone(p.tags)}
}

// PutString stores a parameter's next version unencrypted, as type String. It panics on what PutParameter
// refuses.
func (s *Server) PutString(name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, fault := s.put(request{Name: name, Value: value, Type: "String", Overwrite: true}); fault != nil {
		panic("localssm: put " + name + ": " + fault.Error())
	}
}
