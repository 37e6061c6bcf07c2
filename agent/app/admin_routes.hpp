// SPDX-License-Identifier: Apache-2.0
// The admin API as a function: who asks, for what, and the backend's answer as status and body. Knows no socket, so
// tests and the fuzzer call it directly; admin_server carries the bytes.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>

#include "app/admin_backend.hpp"

namespace mesh::app {

/// What a caller may do; each includes the ones before.
enum class Access : std::uint8_t {
  kNone,
  kObserve,  ///< /metrics, /livez, /readyz: whoever reaches the TCP listener
  kRead,     ///< the socket's group
  kChange,   ///< root
};

struct Caller {
  Access access = Access::kNone;
  uid_t uid = static_cast<uid_t>(-1);  ///< of a unix socket's peer; -1: TCP
  pid_t pid = 0;
};

struct AdminRequest {
  std::string_view method;
  std::string_view target;  ///< origin form: "/v1/services?service=orders"
  std::string_view body;
};

struct AdminResponse {
  int status = 200;
  std::string_view content_type = "application/json";
  std::string body;
  std::string allow;  ///< for 405
};

using Respond = std::move_only_function<void(AdminResponse)>;

/// Calls `respond` exactly once, now or (reload, detach, diff, metrics) later on the same thread. Changes and refused
/// changes are logged with uid and pid. `request` need not outlive the call.
void answer(AdminBackend& backend, const Caller& caller, const AdminRequest& request, Respond respond);

/// The JSON body and status for an error.
AdminResponse error_response(const base::Error& error);

}  // namespace mesh::app
