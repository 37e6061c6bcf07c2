// SPDX-License-Identifier: Apache-2.0
// What the admin server asks the agent. The server knows sockets, HTTP and who may do what; the backend knows the mesh.
//
// Every method runs on the control loop's thread and reads published snapshots: it returns within a loop step's budget
// (5 ms), which is why lists come in pages. What can take longer takes a Reply, which is called once, on the same
// thread, now or later; a client that is gone by then makes it do nothing.
#pragma once

#include <functional>
#include <string>

#include "api/bpf.hpp"
#include "api/connections.hpp"
#include "api/control.hpp"
#include "api/drain.hpp"
#include "api/history.hpp"
#include "api/services.hpp"
#include "api/status.hpp"
#include "api/traffic.hpp"
#include "base/error.hpp"

namespace mesh::app {

template <typename T>
using Reply = std::move_only_function<void(base::Result<T>)>;

class AdminBackend {
 public:
  virtual ~AdminBackend() = default;

  // Reads.
  virtual api::VersionView version() = 0;
  virtual api::Status status() = 0;
  virtual api::SourceList sources() = 0;
  /// `kNotFound` if a service was asked for that does not exist, `kInvalid` for a broken `after`.
  virtual base::Result<api::ServiceList> services(const api::ListRequest& request) = 0;
  virtual base::Result<api::EndpointList> endpoints(const api::ListRequest& request) = 0;
  virtual base::Result<api::ExplainView> explain(const api::ExplainRequest& request) = 0;
  virtual base::Result<api::BpfDump> dump(const api::DumpRequest& request) = 0;
  virtual base::Result<api::BpfStats> stats() = 0;
  virtual void diff(Reply<api::BpfDiff> reply) = 0;
  virtual api::ConfigView config() = 0;
  virtual std::string config_schema() = 0;  ///< a JSON Schema document
  virtual api::DrainList drains() = 0;
  virtual api::LogView log_level() = 0;
  /// Prometheus text exposition format 0.0.4.
  virtual void metrics(Reply<std::string> reply) = 0;
  virtual api::ReadyView ready() = 0;
  // Long answers come as encoded documents: of many rows, the encoding takes longest.
  virtual void connections(const api::ConnectionRequest& request, Reply<std::string> reply) = 0;
  virtual void flows(const api::FlowRequest& request, Reply<std::string> reply) = 0;
  virtual void traffic(const api::TrafficRequest& request, Reply<std::string> reply) = 0;
  virtual void history(const api::HistoryRequest& request, Reply<std::string> reply) = 0;

  // Changes. The server has checked that the caller is root and has logged the call.
  /// `by`: who asks, for people.
  virtual base::Result<api::PauseView> pause(const api::PauseRequest& request, const std::string& by) = 0;
  virtual base::Result<api::PauseView> resume(const api::ResumeRequest& request, const std::string& by) = 0;
  /// The endpoints it is about; `kNotFound` if there are none.
  virtual base::Result<api::DrainList> drain(const api::DrainRequest& request) = 0;
  virtual base::Result<api::LogView> set_log_level(const api::LogView& request) = 0;
  virtual void reload(Reply<api::ReloadView> reply) = 0;
  /// Takes every hook off and removes the pins; the agent ends afterwards.
  virtual void detach(Reply<api::DetachView> reply) = 0;
};

}  // namespace mesh::app
