package localsnowflake

type renewRequest struct {
	RequestType string `json:"requestType"`
}

type renewData struct {
	SessionToken   string `json:"sessionToken"`
	MasterToken    string `json:"masterToken"`
	Validity       int64  `json:"validityInSecondsST"`
	MasterValidity int64  `json:"validityInSecondsMT"`
	SessionID      int64  `json:"sessionId"`
}

func (s *Server) renew(c *call) response {
	var in renewRequest
	malformed := c.decode(&in) != nil || in.RequestType != "RENEW"
	opened, refused := s.sessions.find(c.token(), MasterTokenNotFound)
	c.identify(opened)
	if out := s.interrupt(c); out != nil {
		return *out
	}
	if malformed {
		return c.fail(failed(InvalidPayload))
	}
	if refused != 0 {
		return c.fail(failed(refused))
	}
	tokens, refused := opened.renew(c.token(), s.clock(), s.sessionValidity.get(), s.masterValidity.get())
	if refused != 0 {
		return c.fail(failed(refused))
	}
	s.counters.renewals.Add(1)
	return succeed(renewData{
		SessionToken:   tokens.token,
		MasterToken:    tokens.master,
		Validity:       s.sessionValidity.seconds(),
		MasterValidity: s.masterValidity.seconds(),
		SessionID:      opened.id,
	})
}

// admit authenticates a request within a session and asks the hook. It returns the answer if that is all.
func (s *Server) admit(c *call) (*session, *response) {
	opened, refused := s.sessions.authenticate(c.token(), s.clock())
	c.identify(opened)
	if out := s.interrupt(c); out != nil {
		return nil, out
	}
	if refused != 0 {
		out := c.fail(failed(refused))
		return nil, &out
	}
	return opened, nil
}

func (s *Server) heartbeat(c *call) response {
	if _, out := s.admit(c); out != nil {
		return *out
	}
	s.counters.heartbeats.Add(1)
	return succeed(nil)
}

// closeSession closes even a session whose token has expired: its client will not renew it for this.
func (s *Server) closeSession(c *call) response {
	opened, refused := s.sessions.authenticate(c.token(), s.clock())
	c.identify(opened)
	if out := s.interrupt(c); out != nil {
		return *out
	}
	if c.query.Get("delete") != "true" {
		return c.fail(failed(InvalidPayload))
	}
	if opened == nil || refused == SessionTokenInvalid {
		return c.fail(failed(refused))
	}
	s.sessions.remove(opened.id)
	opened.closeEngineSession()
	s.counters.sessionsClosed.Add(1)
	if refused != 0 {
		return c.fail(failed(refused))
	}
	return succeed(nil)
}

// telemetry takes everything and keeps nothing.
func (s *Server) telemetry(*call) response { return succeed("Log Received") }
