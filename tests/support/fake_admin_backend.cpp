// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fake_admin_backend.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace mesh::test {
namespace {

using base::ErrorKind;
using base::Result;

constexpr const char* kUntil = "2026-11-20T12:14:31.000Z";

/// Page of `all` after the place that `request.after` names.
template <typename List, typename Item>
Result<List> page_of(const std::vector<Item>& all, const api::ListRequest& request) {
  std::size_t first = 0;
  if (!request.after.empty()) {
    const auto [end, error] = std::from_chars(request.after.data(), request.after.data() + request.after.size(), first);
    if (error != std::errc{} || end != request.after.data() + request.after.size() || first > all.size()) {
      return base::fail(ErrorKind::kInvalid, "read 'after': not a place in the list");
    }
  }
  const std::size_t last = std::min(all.size(), first + request.limit);
  List list{.total = all.size()};
  list.items.assign(all.begin() + static_cast<std::ptrdiff_t>(first), all.begin() + static_cast<std::ptrdiff_t>(last));
  if (last < all.size()) list.next = std::to_string(last);
  return list;
}

Result<void> known(const std::string& service) {
  if (service.empty() || service == "orders" || service == "cache") return {};
  return base::fail(ErrorKind::kNotFound, "find service '" + service + "': no such service",
                    "list them with 'meshctl services'");
}

}  // namespace

FakeAdminBackend::FakeAdminBackend() {
  status_value = {.state = "healthy",
                  .version = "0.1.0",
                  .pid = 4711,
                  .started_at = "2026-11-20T12:00:00.000Z",
                  .uptime_s = 271,
                  .mode = "active",
                  .bpffs = "/sys/fs/bpf/meshd",
                  .services = 2,
                  .endpoints = 3,
                  .endpoints_down = 1};
  for (const char* hook : {"connect4", "connect6", "sendmsg4", "sendmsg6", "recvmsg4", "recvmsg6", "getpeername4",
                           "getpeername6", "post_bind4", "sock_release"}) {
    status_value.hooks.push_back({.cgroup = "/system.slice/shop.service",
                                  .hook = hook,
                                  .program_id = static_cast<std::uint32_t>(100 + status_value.hooks.size()),
                                  .age_s = 271,
                                  .attached = true,
                                  .effective = true});
  }
  for (const char* path : {"tcp4", "tcp6", "udp4", "udp6"}) {
    status_value.canary.push_back(
        {.cgroup = "/system.slice/shop.service", .path = path, .result = "ok", .checked_ago_s = 0.4});
  }
  connections_value = {.total = 3,
                       .truncated = 1,
                       .items = {{.cookie = 4097,
                                  .service = "orders",
                                  .frontend = "240.64.0.10:80/tcp",
                                  .backend = "10.0.0.11:8080",
                                  .local = "10.0.0.1:50000",
                                  .pid = 4711,
                                  .process = "curl",
                                  .cgroup_id = 77,
                                  .cgroup = "/system.slice/shop.service",
                                  .netns_cookie = 1,
                                  .netns_inode = 4026531840,
                                  .age_s = 200,
                                  .connect_us = 420,
                                  .state = "established",
                                  .bytes_out = 2048,
                                  .bytes_in = 100,
                                  .srtt_us = 1400,
                                  .retransmits = 0},
                                 {.cookie = 4098,
                                  .frontend = "240.64.0.12:53/udp",
                                  .backend = "10.0.0.14:53",
                                  .feedback = false,
                                  .age_s = 1}},
                       .unreachable = {"namespace with cookie 9 (pid 12): no process and no name leads there"}};
  flows_value = {.items = {{.id = 41,
                            .time = "2026-11-20T12:04:30.000Z",
                            .service = "orders",
                            .frontend = "240.64.0.10:80/tcp",
                            .backend = "10.0.0.11:8080",
                            .pid = 4711,
                            .process = "curl",
                            .cgroup_id = 77,
                            .cgroup = "/system.slice/shop.service",
                            .netns_cookie = 1,
                            .outcome = "closed",
                            .connect_us = 420,
                            .duration_s = 0.0125,
                            .bytes_out = 80,
                            .bytes_in = 2048,
                            .srtt_us = 380},
                           {.id = 42,
                            .time = "2026-11-20T12:04:31.000Z",
                            .service = "orders",
                            .frontend = "240.64.0.10:80/tcp",
                            .backend = "10.0.0.12:8080",
                            .pid = 4711,
                            .process = "curl",
                            .outcome = "refused",
                            .failed = true,
                            .duration_s = 0.0005}},
                 .next = 42,
                 .read = 42};
  traffic_value.at_s = 100;
  traffic_value.items = {{.service = "orders",
                          .frontend = "240.64.0.10:80/tcp",
                          .refused = 1,
                          .counts = {.opened = 10, .closed = 7, .established = 9, .failed = 1, .latency = {0, 0, 9}},
                          .backends = {{"10.0.0.11:8080", 1, 1, {.opened = 10, .closed = 7, .latency = {0, 4}}}}}};
  status_value.cgroups = {{"/system.slice/shop.service", true, "2026-11-20T12:00:00.000Z"}};
  status_value.saved_state.saved_at = "2026-11-20T12:04:29.000Z";
  status_value.metrics_certificate = {"/etc/meshd/metrics.pem", "2026-12-20T12:00:00.000Z", 2.6e6, ""};
  status_value.maps = {
      {"services", 3, 16384, 524288}, {"slots", 1049, 1048576, 8388608}, {"events", std::nullopt, 4194304, 4210688}};
  status_value.apply = {.generation_desired = 7,
                        .generation_kernel = 7,
                        .last_apply_at = "2026-11-20T12:04:28.000Z",
                        .last_apply_ago_s = 3,
                        .last_apply_duration_s = 0.0005,
                        .applies = 7,
                        .audited_ago_s = 12};
  status_value.sources = {{.name = "file",
                           .state = "synced",
                           .synced_at = "2026-11-20T12:04:28.000Z",
                           .synced_ago_s = 3.0,
                           .updates = 1,
                           .services = 2,
                           .endpoints = 3}};
  status_value.probes = {.endpoints = 3, .up = 2, .down = 1, .per_second = 0.6, .budget_per_second = 1000};
  status_value.config = {.path = "/etc/meshd/meshd.yaml", .loaded_at = "2026-11-20T12:00:00.000Z"};
  status_value.loop = {"io_uring", "io_uring: available", 0.0012};
  status_value.memory_resident_bytes = 12U << 20;

  service_values = {{.name = "orders",
                     .frontend = "240.64.0.10:80/tcp",
                     .algorithm = "round_robin",
                     .hash_key = "namespace",
                     .probe = "http /healthz every 5s",
                     .source = "file",
                     .origin = "meshd.yaml:6",
                     .service_id = 1,
                     .endpoints = 2,
                     .eligible = 1,
                     .counters = {.connects = 120, .refused = 2, .refused_no_backend = 2}},
                    {.name = "cache",
                     .frontend = "240.64.0.11:6379/tcp",
                     .algorithm = "maglev",
                     .hash_key = "namespace",
                     .maglev_size = 4093,
                     .source = "file",
                     .origin = "endpoints/cache.json:1",
                     .service_id = 2,
                     .endpoints = 1,
                     .eligible = 1}};
  endpoint_values = {{.service = "orders",
                      .frontend = "240.64.0.10:80/tcp",
                      .address = "10.0.0.11:8080",
                      .weight = 2,
                      .share = 1,
                      .eligibility = "eligible",
                      .verdict = "up",
                      .reason = "ok",
                      .detail = "http 200",
                      .checked_ago_s = 1.2,
                      .since = "2026-11-20T12:00:01.000Z",
                      .streak = 54,
                      .backend_id = 1,
                      .picks = 120},
                     {.service = "orders",
                      .frontend = "240.64.0.10:80/tcp",
                      .address = "10.0.0.12:8080",
                      .weight = 1,
                      .share = 0,
                      .eligibility = "probe_down",
                      .verdict = "down",
                      .reason = "refused",
                      .detail = "",
                      .checked_ago_s = 0.8,
                      .since = "2026-11-20T12:04:31.000Z",
                      .streak = 3,
                      .backend_id = 2,
                      .picks = 60},
                     {.service = "cache",
                      .frontend = "240.64.0.11:6379/tcp",
                      .address = "10.0.0.13:6379",
                      .weight = 1,
                      .share = 1,
                      .eligibility = "eligible",
                      .verdict = "unknown",
                      .reason = "none",
                      .backend_id = 3}};
  stats_value = {
      .programs = {{.name = "mesh_connect4", .hook = "connect4", .program_id = 100, .instructions = 412}},
      .reasons = {{"no_backend", "the service has no usable backend; refused", 2}, {"retried", "looked up again", 0}},
      .maps = status_value.maps};
}

Result<api::ServiceList> FakeAdminBackend::services(const api::ListRequest& request) {
  MESH_CHECK(known(request.service));
  auto matching = service_values;
  if (!request.service.empty()) std::erase_if(matching, [&](const auto& s) { return s.name != request.service; });
  return page_of<api::ServiceList>(matching, request);
}

Result<api::EndpointList> FakeAdminBackend::endpoints(const api::ListRequest& request) {
  MESH_CHECK(known(request.service));
  auto matching = endpoint_values;
  if (!request.service.empty()) std::erase_if(matching, [&](const auto& e) { return e.service != request.service; });
  return page_of<api::EndpointList>(matching, request);
}

Result<api::ExplainView> FakeAdminBackend::explain(const api::ExplainRequest& request) {
  explain_requests.push_back(request);
  api::ExplainView view{.target = request.target, .from = request.cgroup};
  if (!request.cgroup.empty()) view.from_attached = true;
  if (request.target == "192.0.2.1:80") {
    view.results = {{.decision = "untouched", .why = "no service has this address", .protocol = "tcp"}};
    return view;
  }
  MESH_CHECK(known(request.target));
  api::ExplainResult result{.decision = "balanced",
                            .why = "1 of 2 endpoints gets new connections",
                            .protocol = "tcp",
                            .service = service_values[0],
                            .choice = "rotation",
                            .pick = "10.0.0.11:8080"};
  result.endpoints = {endpoint_values[0], endpoint_values[1]};
  view.results = {std::move(result)};
  return view;
}

Result<api::BpfDump> FakeAdminBackend::dump(const api::DumpRequest& request) {
  api::BpfDump dump{.bpffs = status_value.bpffs};
  const auto wanted = [&](const char* table) { return request.table.empty() || request.table == table; };
  if (wanted("control")) {
    dump.control = {.layout = "1.0",
                    .generation = 7,
                    .applied_at = "2026-11-20T12:04:28.000Z",
                    .agent_pid = 4711,
                    .holder = "/sys/fs/bpf/meshd",
                    .version = "0.1.0"};
  }
  if (wanted("frontends")) dump.frontends = {{"240.64.0.10:80/tcp", 1}, {"240.64.0.11:6379/tcp", 2}};
  if (wanted("services")) dump.services = {{1, "240.64.0.10:80/tcp", 1, "", 7, 2}};
  if (wanted("ranges")) dump.ranges = {{2, 1, 64, 3, "round_robin", "namespace", 0xabcd, 0}};
  if (wanted("slots")) dump.slots = {{64, 1, 1}, {65, 2, 1}, {66, 1, 1}};
  if (wanted("backends"))
    dump.backends = {{1, "10.0.0.11:8080", 1, 2, 1, true, 120}, {2, "10.0.0.12:8080", 1, 1, 1, false, 60}};
  if (request.table == "owners") dump.owners = {{77, "240.64.0.10:80/tcp", "10.0.0.11:8080", 1, 1, 99, 5, 1.5}};
  dump.maps = status_value.maps;
  return dump;
}

api::ConfigView FakeAdminBackend::config() {
  return {"/etc/meshd/meshd.yaml",
          {"/etc/meshd/meshd.yaml"},
          api::Json{{"agent", {{"cgroups", {"/system.slice/shop.service"}}}}}};
}

void FakeAdminBackend::connections(const api::ConnectionRequest& request, app::Reply<std::string> reply) {
  connection_requests.push_back(request);
  reply(api::encode(connections_value));
}

void FakeAdminBackend::flows(const api::FlowRequest& request, app::Reply<std::string> reply) {
  flow_requests.push_back(request);
  reply(api::encode(flows_value));
}

void FakeAdminBackend::traffic(const api::TrafficRequest&, app::Reply<std::string> reply) {
  reply(api::encode(traffic_value));
}

void FakeAdminBackend::history(const api::HistoryRequest& request, app::Reply<std::string> reply) {
  api::HistoryList list = history_value;
  std::erase_if(list.items, [&](const auto& event) { return !event.service.starts_with(request.service); });
  reply(api::encode(list));
}

Result<api::PauseView> FakeAdminBackend::pause(const api::PauseRequest& request, const std::string&) {
  MESH_CHECK(known(request.service));
  changes.push_back(fmt::format("pause {} {}", request.service, request.seconds));
  return api::PauseView{{{request.service.empty() ? "mesh" : request.service, kUntil}}};
}

Result<api::DrainList> FakeAdminBackend::drain(const api::DrainRequest& request) {
  MESH_CHECK(known(request.service));
  changes.push_back(fmt::format("{} {} {}", request.undo ? "undrain" : "drain", request.service, request.endpoint));
  api::DrainList list = drains_value;
  list.items[0].ordered = !request.undo;
  return list;
}

Result<api::PauseView> FakeAdminBackend::resume(const api::ResumeRequest& request, const std::string&) {
  MESH_CHECK(known(request.service));
  changes.push_back("resume " + request.service);
  return api::PauseView{{{request.service.empty() ? "mesh" : request.service, ""}}};
}

Result<api::LogView> FakeAdminBackend::set_log_level(const api::LogView& request) {
  if (request.level != "debug" && request.level != "info")
    return base::fail(ErrorKind::kInvalid, "set log level: no such level");
  level = request.level;
  changes.push_back("log " + level);
  return request;
}

void FakeAdminBackend::reload(app::Reply<api::ReloadView> reply) {
  changes.emplace_back("reload");
  if (reload_is_late) {
    late_reload = std::move(reply);
  } else {
    reply(reload_value);
  }
}

}  // namespace mesh::test
