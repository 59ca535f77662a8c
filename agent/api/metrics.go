package api

import (
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/engine"
)

// metrics are what is measured, for Prometheus.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
}

func newMetrics(e *engine.Engine, version string) *metrics {
	m := &metrics{prometheus.NewRegistry(), prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "hyper2kvm_http_request_seconds", Help: "How long requests took, by operation and status; streams are not among them.",
		Buckets: []float64{.001, .005, .02, .1, .5, 2, 10}}, []string{"method", "path", "status"})}
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "hyper2kvm_info", Help: "Always 1; the version is in its label.", ConstLabels: prometheus.Labels{"version": version}})
	info.Set(1)
	m.registry.MustRegister(m.requests, info, migrations{e}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// measured notes how long a request took. Its path is the route's, of which there are
// few.
func (m *metrics) measured(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		began := time.Now()
		if err := next(c); err != nil {
			c.Error(err)
		}
		if path := c.Path(); path != "" && path != base+"/events" {
			m.requests.WithLabelValues(c.Request().Method, path, strconv.Itoa(c.Response().Status)).Observe(time.Since(began).Seconds())
		}
		return nil
	}
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// migrations counts them as they are when it is asked.
type migrations struct{ engine *engine.Engine }

var (
	byState    = prometheus.NewDesc("hyper2kvm_migrations", "Migrations that are known, by state.", []string{"state"}, nil)
	byVerdict  = prometheus.NewDesc("hyper2kvm_migrations_done", "Migrations that are done, by verdict.", []string{"verdict"}, nil)
	copied     = prometheus.NewDesc("hyper2kvm_copy_bytes", "Of the disks that are copied now, by what is counted: virtual, total, wire, allocated.", []string{"counted"}, nil)
	appliances = prometheus.NewDesc("hyper2kvm_appliances", "Appliances that were heard of, by whether their lease holds.", []string{"alive"}, nil)
)

// Describe implements prometheus.Collector.
func (migrations) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{byState, byVerdict, copied, appliances} {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (m migrations) Collect(c chan<- prometheus.Metric) {
	states, verdicts, alive := map[string]int{}, map[string]int{}, map[bool]int{}
	for _, s := range []model.State{model.StateQueued, model.StateRunning, model.StatePlanned, model.StatePaused, model.StateDone, model.StateFailed, model.StateCancelled} {
		states[string(s)] = 0
	}
	var sum model.Progress
	m.engine.All(func(v *model.Migration) {
		states[string(v.State)]++
		if v.State == model.StateDone {
			verdicts[string(v.Verdict)]++
		}
		sum.Virtual, sum.Total = sum.Virtual+v.Progress.Virtual, sum.Total+v.Progress.Total
		sum.Wire, sum.Allocated = sum.Wire+v.Progress.Wire, sum.Allocated+v.Progress.Allocated
	})
	for _, a := range m.engine.Appliances() {
		alive[a.Alive]++
	}
	gauge := func(d *prometheus.Desc, n float64, label string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, label)
	}
	for s, n := range states {
		gauge(byState, float64(n), s)
	}
	for v, n := range verdicts {
		gauge(byVerdict, float64(n), v)
	}
	for what, n := range map[string]int64{"virtual": sum.Virtual, "total": sum.Total, "wire": sum.Wire, "allocated": sum.Allocated} {
		gauge(copied, float64(n), what)
	}
	for a, n := range alive {
		gauge(appliances, float64(n), strconv.FormatBool(a))
	}
}
