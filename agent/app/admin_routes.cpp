// SPDX-License-Identifier: Apache-2.0
#include "app/admin_routes.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <optional>

#include "base/log.hpp"

namespace mesh::app {
namespace {

using base::ErrorKind;
using base::Result;

constexpr base::log::Logger kLog{"admin"};
constexpr std::string_view kText = "text/plain; charset=utf-8";
constexpr std::string_view kPrometheus = "text/plain; version=0.0.4; charset=utf-8";

using Query = std::map<std::string, std::string, std::less<>>;

int status_for(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalid:
      return 400;
    case ErrorKind::kPermission:
      return 403;
    case ErrorKind::kNotFound:
      return 404;
    case ErrorKind::kConflict:
      return 409;
    case ErrorKind::kUnsupported:
      return 501;
    case ErrorKind::kUnavailable:
      return 503;
    case ErrorKind::kTimeout:
      return 504;
    case ErrorKind::kExhausted:
      return 507;
    case ErrorKind::kSystem:
      return 500;
  }
  return 500;
}

template <typename T>
AdminResponse document(const T& value) {
  return {.body = api::encode(value) + '\n'};
}

template <typename T>
AdminResponse document(const Result<T>& value) {
  return value ? document(*value) : error_response(value.error());
}

/// Percent-decoding; '+' is a space, as curl's --data-urlencode and browsers write it.
std::optional<std::string> decode_component(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+') {
      decoded += ' ';
    } else if (text[i] == '%') {
      unsigned value = 0;
      if (i + 2 >= text.size()) return std::nullopt;
      const auto [end, error] = std::from_chars(text.data() + i + 1, text.data() + i + 3, value, 16);
      if (error != std::errc{} || end != text.data() + i + 3 || value == 0) return std::nullopt;
      decoded += static_cast<char>(value);
      i += 2;
    } else {
      decoded += text[i];
    }
  }
  return decoded;
}

/// "a=1&b" as a map; a name that is not in `known`, or comes twice, is an error: a typing error must not widen a query.
Result<Query> parse_query(std::string_view text, std::span<const std::string_view> known) {
  Query query;
  while (!text.empty()) {
    const std::string_view part = text.substr(0, text.find('&'));
    text.remove_prefix(std::min(text.size(), part.size() + 1));
    const auto equals = std::min(part.find('='), part.size());
    const auto name = decode_component(part.substr(0, equals));
    const auto value = decode_component(part.substr(std::min(part.size(), equals + 1)));
    if (!name || !value) return base::fail(ErrorKind::kInvalid, "decode the query: broken percent-encoding");
    if (std::find(known.begin(), known.end(), *name) == known.end()) {
      std::string names;
      for (const std::string_view candidate : known) names += (names.empty() ? "" : ", ") + std::string(candidate);
      return base::fail(ErrorKind::kInvalid, "read query parameter '" + *name + "': not known here",
                        names.empty() ? "this path takes none" : "known are: " + names);
    }
    if (!query.emplace(*name, *value).second) {
      return base::fail(ErrorKind::kInvalid, "read query parameter '" + *name + "': given twice");
    }
  }
  return query;
}

std::string text_of(const Query& query, std::string_view name) {
  const auto found = query.find(name);
  return found == query.end() ? "" : found->second;
}

template <typename T>
Result<T> number_of(const Query& query, std::string_view name, T absent, T largest) {
  const auto found = query.find(name);
  if (found == query.end()) return absent;
  const std::string& text = found->second;
  T value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value > largest) {
    return base::fail(ErrorKind::kInvalid, "read query parameter '" + std::string(name) + "': not a number from 0 to " +
                                               std::to_string(largest));
  }
  return value;
}

Result<api::ListRequest> list_request(const Query& query) {
  api::ListRequest request{.service = text_of(query, "service"), .after = text_of(query, "after")};
  request.limit = MESH_TRY(number_of(query, "limit", api::kPageLimitDefault, api::kPageLimitMax));
  if (request.limit == 0) request.limit = api::kPageLimitDefault;
  return request;
}

Result<api::ExplainRequest> explain_request(const Query& query) {
  api::ExplainRequest request{.target = text_of(query, "target"), .cgroup = text_of(query, "cgroup")};
  if (request.target.empty()) {
    return base::fail(ErrorKind::kInvalid, "explain: the query parameter 'target' is missing",
                      "give NAME, NAME:PORT, ADDR:PORT or a URL");
  }
  constexpr std::uint64_t kAny = ~std::uint64_t{0};
  request.cgroup_id = MESH_TRY(number_of<std::uint64_t>(query, "cgroup_id", 0, kAny));
  request.netns_cookie = MESH_TRY(number_of<std::uint64_t>(query, "netns_cookie", 0, kAny));
  if (query.contains("uid")) request.uid = MESH_TRY(number_of<std::uint32_t>(query, "uid", 0, ~std::uint32_t{0}));
  request.source_address = text_of(query, "source_address");
  return request;
}

Result<api::DumpRequest> dump_request(const Query& query) {
  constexpr std::array<std::string_view, 8> kTables = {"",       "control", "frontends", "services",
                                                       "ranges", "slots",   "backends",  "owners"};
  api::DumpRequest request{.table = text_of(query, "table")};
  if (std::find(kTables.begin(), kTables.end(), request.table) == kTables.end()) {
    return base::fail(ErrorKind::kInvalid, "dump table '" + request.table + "': no such table",
                      "tables are control, frontends, services, ranges, slots, backends, owners");
  }
  request.after = MESH_TRY(number_of<std::uint64_t>(query, "after", 0, ~std::uint64_t{0}));
  request.limit = MESH_TRY(number_of<std::uint32_t>(query, "limit", api::kDumpLimitDefault, api::kDumpLimitMax));
  return request;
}

Result<api::ConnectionFilter> connection_filter(const Query& query) {
  api::ConnectionFilter filter{
      .service = text_of(query, "service"), .backend = text_of(query, "backend"), .cgroup = text_of(query, "cgroup")};
  filter.pid = MESH_TRY(number_of<std::uint32_t>(query, "pid", 0, ~std::uint32_t{0}));
  filter.netns = MESH_TRY(number_of<std::uint64_t>(query, "netns", 0, ~std::uint64_t{0}));
  return filter;
}

Result<api::ConnectionRequest> connection_request(const Query& query) {
  api::ConnectionRequest request{.filter = MESH_TRY(connection_filter(query)), .state = text_of(query, "state")};
  request.limit = MESH_TRY(number_of<std::uint32_t>(query, "limit", request.limit, api::kConnectionLimitMax));
  return request;
}

Result<api::FlowRequest> flow_request(const Query& query) {
  api::FlowRequest request{.filter = MESH_TRY(connection_filter(query)), .outcome = text_of(query, "outcome")};
  request.failed = query.contains("failed");
  request.after = MESH_TRY(number_of<std::uint64_t>(query, "after", 0, ~std::uint64_t{0}));
  request.limit = MESH_TRY(number_of<std::uint32_t>(query, "limit", request.limit, api::kFlowLimitMax));
  return request;
}

Result<api::TrafficRequest> traffic_request(const Query& query) {
  api::TrafficRequest request{.service = text_of(query, "service")};
  request.limit = MESH_TRY(number_of<std::uint32_t>(query, "limit", request.limit, api::kTrafficLimitMax));
  return request;
}

Result<api::HistoryRequest> history_request(const Query& query) {
  api::HistoryRequest request{.service = text_of(query, "service")};
  constexpr std::uint64_t kTenYears = 10ULL * 365 * 24 * 3600;
  request.since_s = MESH_TRY(number_of<std::uint64_t>(query, "since_s", request.since_s, kTenYears));
  request.limit = MESH_TRY(number_of<std::uint32_t>(query, "limit", request.limit, api::kHistoryLimitMax));
  return request;
}

/// What is meant by neither is not the whole mesh: that has to be said.
Result<void> check_scope(std::string_view verb, const std::string& service, bool all) {
  if (service.empty() == all) return {};
  return base::fail(ErrorKind::kInvalid,
                    std::string(verb) + (all ? ": both 'service' and 'all' are given" : ": nothing says what"),
                    "give \"service\": \"NAME\", or \"all\": true for the whole mesh");
}

Result<api::PauseRequest> pause_request(std::string_view body) {
  auto request = MESH_TRY(api::decode_request<api::PauseRequest>(body));
  MESH_CHECK(check_scope("pause", request.service, request.all));
  if (request.seconds == 0 || request.seconds > api::kPauseMaxSeconds) {
    return base::fail(ErrorKind::kInvalid,
                      "pause: 'seconds' is " + (request.seconds == 0 ? "missing" : std::to_string(request.seconds)),
                      "a pause ends by itself after 1 s to 7 days");
  }
  return request;
}

Result<api::ResumeRequest> resume_request(std::string_view body) {
  auto request = MESH_TRY(api::decode_request<api::ResumeRequest>(body));
  MESH_CHECK(check_scope("resume", request.service, request.all));
  return request;
}

AdminResponse readiness(const api::ReadyView& view, bool verbose) {
  AdminResponse response{.status = view.ready ? 200 : 503, .content_type = kText};
  for (const api::ReadyCheck& check : view.checks) {
    if (!verbose && check.ok) continue;
    response.body += (check.ok ? "[+] " : "[-] ") + check.name + (check.ok ? " ok" : " not ok");
    if (!check.detail.empty()) response.body += ": " + check.detail;
    response.body += '\n';
  }
  response.body += view.ready ? "ready\n" : "not ready\n";
  return response;
}

template <typename T>
Reply<T> reply_document(Respond respond) {
  return [respond = std::move(respond)](Result<T> value) mutable { respond(document(value)); };
}

/// For documents that were encoded elsewhere.
Reply<std::string> reply_text(Respond respond) {
  return [respond = std::move(respond)](Result<std::string> text) mutable {
    respond(text ? AdminResponse{.body = *std::move(text) + '\n'} : error_response(text.error()));
  };
}

/// Runs what needs a parsed request first and answers later with an encoded document.
void with_text(auto request, Respond respond, auto then) {
  if (!request) return respond(error_response(request.error()));
  then(*request, reply_text(std::move(respond)));
}

struct Call {
  AdminBackend& backend;
  const Query& query;
  std::string_view body;
  const Caller& caller;
  [[nodiscard]] std::string by() const {
    return "by uid " + std::to_string(caller.uid) + ", pid " + std::to_string(caller.pid);
  }
};

struct Route {
  std::string_view method;
  std::string_view path;
  Access needs;
  std::vector<std::string_view> parameters;
  void (*run)(const Call& call, Respond respond);
};

/// Runs what needs a parsed request first: the error answers, or `then` makes the document.
void with(auto request, Respond& respond, auto then) {
  respond(request ? document(then(*request)) : error_response(request.error()));
}

const std::vector<Route>& routes() {
  static const std::vector<Route> kRoutes = {
      {"GET",
       "/livez",
       Access::kObserve,
       {"verbose"},
       [](const Call&, Respond respond) { respond({.content_type = kText, .body = "ok\n"}); }},
      {"GET",
       "/readyz",
       Access::kObserve,
       {"verbose"},
       [](const Call& call, Respond respond) {
         respond(readiness(call.backend.ready(), call.query.contains("verbose")));
       }},
      {"GET",
       "/metrics",
       Access::kObserve,
       {},
       [](const Call& call, Respond respond) {
         call.backend.metrics([respond = std::move(respond)](Result<std::string> text) mutable {
           respond(text ? AdminResponse{.content_type = kPrometheus, .body = *std::move(text)}
                        : error_response(text.error()));
         });
       }},
      {"GET",
       "/v1/version",
       Access::kRead,
       {},
       [](const Call& call, Respond respond) { respond(document(call.backend.version())); }},
      {"GET",
       "/v1/status",
       Access::kRead,
       {},
       [](const Call& call, Respond respond) { respond(document(call.backend.status())); }},
      {"GET",
       "/v1/sources",
       Access::kRead,
       {},
       [](const Call& call, Respond respond) { respond(document(call.backend.sources())); }},
      {"GET",
       "/v1/services",
       Access::kRead,
       {"service", "after", "limit"},
       [](const Call& call, Respond respond) {
         with(list_request(call.query), respond, [&](const auto& request) { return call.backend.services(request); });
       }},
      {"GET",
       "/v1/endpoints",
       Access::kRead,
       {"service", "after", "limit"},
       [](const Call& call, Respond respond) {
         with(list_request(call.query), respond, [&](const auto& request) { return call.backend.endpoints(request); });
       }},
      {"GET",
       "/v1/explain",
       Access::kRead,
       {"target", "cgroup", "cgroup_id", "netns_cookie", "uid", "source_address"},
       [](const Call& call, Respond respond) {
         with(explain_request(call.query), respond, [&](const auto& request) { return call.backend.explain(request); });
       }},
      {"GET",
       "/v1/bpf/dump",
       Access::kRead,
       {"table", "after", "limit"},
       [](const Call& call, Respond respond) {
         with(dump_request(call.query), respond, [&](const auto& request) { return call.backend.dump(request); });
       }},
      {"GET",
       "/v1/bpf/diff",
       Access::kRead,
       {},
       [](const Call& call, Respond respond) { call.backend.diff(reply_document<api::BpfDiff>(std::move(respond))); }},
      {"GET",
       "/v1/bpf/stats",
       Access::kRead,
       {},
       [](const Call& call, Respond respond) { respond(document(call.backend.stats())); }},
      {"GET",
       "/v1/connections",
       Access::kRead,
       {"service", "backend", "pid", "cgroup", "netns", "state", "limit"},
       [](const Call& call, Respond respond) {
         with_text(connection_request(call.query), std::move(respond),
                   [&](const auto& request, Reply<std::string> reply) {
                     call.backend.connections(request, std::move(reply));
                   });
       }},
      {"GET",
       "/v1/flows",
       Access::kRead,
       {"service", "backend", "pid", "cgroup", "netns", "outcome", "failed", "after", "limit"},
       [](const Call& call, Respond respond) {
         with_text(flow_request(call.query), std::move(respond), [&](const auto& request, Reply<std::string> reply) {
           call.backend.flows(request, std::move(reply));
         });
       }},
      {"GET",
       "/v1/traffic",
       Access::kRead,
       {"service", "limit"},
       [](const Call& call, Respond respond) {
         with_text(traffic_request(call.query), std::move(respond), [&](const auto& request, Reply<std::string> reply) {
           call.backend.traffic(request, std::move(reply));
         });
       }},
      {"GET",
       "/v1/history",
       Access::kRead,
       {"service", "since_s", "limit"},
       [](const Call& call, Respond respond) {
         with_text(history_request(call.query), std::move(respond), [&](const auto& request, Reply<std::string> reply) {
           call.backend.history(request, std::move(reply));
         });
       }},
      {"GET",
       "/v1/drains",
       Access::kRead,
       {},
       [](const Call& call, Respond respond) { respond(document(call.backend.drains())); }},
      {"GET",
       "/v1/config",
       Access::kRead,
       {},
       [](const Call& call, Respond respond) { respond(document(call.backend.config())); }},
      {"GET",
       "/v1/config/schema",
       Access::kRead,
       {},
       [](const Call& call, Respond respond) { respond({.body = call.backend.config_schema()}); }},
      {"GET",
       "/v1/log",
       Access::kRead,
       {},
       [](const Call& call, Respond respond) { respond(document(call.backend.log_level())); }},
      {"POST",
       "/v1/log",
       Access::kChange,
       {},
       [](const Call& call, Respond respond) {
         with(api::decode_request<api::LogView>(call.body), respond,
              [&](const auto& request) { return call.backend.set_log_level(request); });
       }},
      {"POST",
       "/v1/drain",
       Access::kChange,
       {},
       [](const Call& call, Respond respond) {
         with(api::decode_request<api::DrainRequest>(call.body), respond,
              [&](const auto& request) { return call.backend.drain(request); });
       }},
      {"POST",
       "/v1/pause",
       Access::kChange,
       {},
       [](const Call& call, Respond respond) {
         with(pause_request(call.body), respond,
              [&](const auto& request) { return call.backend.pause(request, call.by()); });
       }},
      {"POST",
       "/v1/resume",
       Access::kChange,
       {},
       [](const Call& call, Respond respond) {
         with(resume_request(call.body), respond,
              [&](const auto& request) { return call.backend.resume(request, call.by()); });
       }},
      {"POST",
       "/v1/reload",
       Access::kChange,
       {},
       [](const Call& call, Respond respond) {
         const auto nothing = api::decode_request<api::EmptyRequest>(call.body);
         if (!nothing) return respond(error_response(nothing.error()));
         call.backend.reload(reply_document<api::ReloadView>(std::move(respond)));
       }},
      {"POST",
       "/v1/detach",
       Access::kChange,
       {},
       [](const Call& call, Respond respond) {
         const auto nothing = api::decode_request<api::EmptyRequest>(call.body);
         if (!nothing) return respond(error_response(nothing.error()));
         call.backend.detach(reply_document<api::DetachView>(std::move(respond)));
       }},
  };
  return kRoutes;
}

AdminResponse no_such_path(std::string_view path) {
  return error_response({ErrorKind::kNotFound, "find '" + std::string(path) + "': no such path",
                         "paths are /v1/status, /v1/services, /v1/endpoints, /v1/sources, /v1/explain, /v1/bpf/dump, "
                         "/v1/bpf/diff, /v1/bpf/stats, /v1/connections, /v1/flows, /v1/traffic, /v1/history, "
                         "/v1/config, /v1/log, /v1/version, "
                         "/metrics, /livez, /readyz",
                         0});
}

AdminResponse not_allowed(const Route& route, const Caller& caller) {
  if (route.needs == Access::kChange) {
    kLog.warn("change refused", {{"path", route.path}, {"uid", caller.uid}, {"pid", caller.pid}});
    return error_response({ErrorKind::kPermission,
                           "call " + std::string(route.path) + ": only root may change the mesh",
                           "run it with sudo, on the agent's unix socket", 0});
  }
  return error_response({ErrorKind::kPermission, "call " + std::string(route.path) + ": not allowed for this caller",
                         "run it as root or as a member of the socket's group, on the agent's unix socket", 0});
}

}  // namespace

AdminResponse error_response(const base::Error& error) {
  return {.status = status_for(error.kind), .body = api::encode(api::to_view(error)) + '\n'};
}

void answer(AdminBackend& backend, const Caller& caller, const AdminRequest& request, Respond respond) {
  const auto question = std::min(request.target.find('?'), request.target.size());
  const std::string_view path = request.target.substr(0, question);
  const std::string_view query_text = request.target.substr(std::min(request.target.size(), question + 1));
  const std::string_view method = request.method == "HEAD" ? "GET" : request.method;

  const Route* route = nullptr;
  std::string allow;
  for (const Route& candidate : routes()) {
    if (candidate.path != path) continue;
    if (candidate.method == method) route = &candidate;
    allow += (allow.empty() ? "" : ", ") + std::string(candidate.method);
  }
  if (route == nullptr && allow.empty()) return respond(no_such_path(path));
  if (route == nullptr) {
    auto response = error_response(
        {ErrorKind::kInvalid, "call " + std::string(path) + ": wrong method", "this path takes " + allow, 0});
    response.status = 405;
    response.allow = allow;
    return respond(std::move(response));
  }
  if (caller.access < route->needs) return respond(not_allowed(*route, caller));
  const auto query = parse_query(query_text, route->parameters);
  if (!query) return respond(error_response(query.error()));
  if (route->needs == Access::kChange) {
    respond = [respond = std::move(respond), path = std::string(path), body = std::string(request.body),
               caller](AdminResponse response) mutable {
      const bool made = response.status < 400;
      kLog.info(
          made ? "change" : "change refused",
          {{"path", path}, {"uid", caller.uid}, {"pid", caller.pid}, {"request", body}, {"answer", response.status}});
      respond(std::move(response));
    };
  }
  route->run({backend, *query, request.body, caller}, std::move(respond));
}

}  // namespace mesh::app
