package main

// report is the line that kms-smoke prints. Times are in milliseconds of wall clock, whole commands included unless said.
type report struct {
	OK      bool    `json:"ok"`
	Store   string  `json:"store"`
	IRCD    string  `json:"ircd"`
	Seconds float64 `json:"seconds"`
	Error   string  `json:"error,omitempty"`

	UpMS             float64 `json:"up_ms,omitempty"`
	AcrossVersionsMS float64 `json:"across_versions_ms,omitempty"` // median, from say on one version to message on the other
	AcrossWorstMS    float64 `json:"across_versions_worst_ms,omitempty"`
	SystemMessageMS  float64 `json:"system_message_ms,omitempty"` // from the API's call to the slower of both versions
	LimitsMS         float64 `json:"limits_ms,omitempty"`         // until a tenant's new limits are in force, over WebSocket and API
	DeployMS         float64 `json:"deploy_ms,omitempty"`
	DeployBeyondMS   float64 `json:"deploy_beyond_start_ms,omitempty"` // without the build's own start
	SwapMS           float64 `json:"swap_ms,omitempty"`
	MovedMS          float64 `json:"moved_ms,omitempty"` // until all clients were on the new build
	RollbackMS       float64 `json:"rollback_ms,omitempty"`
	RollbackEffectMS float64 `json:"rollback_effect_ms,omitempty"` // from receipt by the control plane to the swap
	ListMS           float64 `json:"list_ms,omitempty"`
	RetireMS         float64 `json:"retire_ms,omitempty"`

	Sockets       int `json:"sockets,omitempty"` // WebSockets open during the deploy
	Acknowledged  int `json:"acknowledged,omitempty"`
	Lost          int `json:"lost"`
	ClosedUnasked int `json:"closed_unasked"`
	APICalls      int `json:"api_calls,omitempty"` // during deploy and rollback
	APIFailed     int `json:"api_failed"`
}
