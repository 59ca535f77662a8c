package vmware

import (
	"encoding/json"
	"errors"
	"strconv"
	"sync"
)

// pages is a ledger in memory that keeps records as files would: as JSON.
type pages struct {
	mu   sync.Mutex
	list [][]byte
	fail error // of every change
}

func (p *pages) Note(t Trace) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		return "", p.fail
	}
	t.ID = strconv.Itoa(len(p.list))
	p.list = append(p.list, nil)
	return t.ID, p.write(t)
}

func (p *pages) write(t Trace) error {
	i, err := strconv.Atoi(t.ID)
	if err != nil {
		return err
	}
	p.list[i], err = json.Marshal(t)
	return err
}

func (p *pages) Settle(id string, state State, made string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, err := strconv.Atoi(id)
	if err != nil || p.fail != nil {
		return errors.Join(err, p.fail)
	}
	var t Trace
	if err := json.Unmarshal(p.list[i], &t); err != nil {
		return err
	}
	t.State = state
	if made != "" {
		t.Made = made
	}
	return p.write(t)
}

func (p *pages) Traces() (list []Trace, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, page := range p.list {
		var t Trace
		if err := json.Unmarshal(page, &t); err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	return list, nil
}

func (p *pages) states() (list []string) {
	traces, _ := p.Traces()
	for _, t := range traces {
		list = append(list, string(t.Kind)+" "+string(t.State))
	}
	return list
}
