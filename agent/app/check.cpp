// SPDX-License-Identifier: Apache-2.0
#include "app/check.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "app/canary_runner.hpp"
#include "app/version.hpp"
#include "balance/route.hpp"
#include "datapath/canary.hpp"
#include "datapath/grace.hpp"
#include "datapath/loader.hpp"
#include "datapath/occupancy.hpp"
#include "datapath/own_cgroup.hpp"
#include "datapath/requirements.hpp"
#include "datapath/writer.hpp"
#include "discovery/merge.hpp"
#include "io/loop.hpp"
#include "relay/plaintext.hpp"

namespace mesh::app {
namespace {

constexpr std::uint64_t kDescriptorsWanted = 16384;  // 10,000 kept-alive probes and room
constexpr int kSelfTestTimeoutMs = 5000;
constexpr datapath::TableSizes kSelfTestSizes = {
    .services = 16, .ranges = 32, .slots = 64, .backends = 64, .owners = 64, .affinities = 16, .live_shards = 1};

class Report {
 public:
  void add(std::string group, std::string name, std::string state, std::string detail, std::string remedy = {}) {
    report.items.push_back({std::move(group), std::move(name), std::move(state), std::move(detail), std::move(remedy)});
  }
  api::CheckReport report;
};

void check_requirements(const AgentSettings& settings, Report& out) {
  for (const auto& requirement : datapath::probe_requirements(settings.cgroup_root, settings.bpffs)) {
    const char* state = requirement.fitness == datapath::Fitness::kOk         ? "ok"
                        : requirement.fitness == datapath::Fitness::kDegraded ? "warn"
                                                                              : "fail";
    out.add("kernel", requirement.name, state, requirement.detail, requirement.remedy);
  }
}

void check_io(const AgentSettings& settings, Report& out) {
  const auto kind = settings.loop == "epoll" ? io::LoopKind::kEpoll : io::LoopKind::kAutomatic;
  const auto choice = io::make_loop(kind);
  if (!choice) {
    out.add("io", "event loop", "fail", choice.error().message, choice.error().remedy);
    return;
  }
  const bool uring = choice->loop->name() == "io_uring";
  out.add("io", "event loop", uring || kind == io::LoopKind::kEpoll ? "ok" : "warn", choice->reason,
          uring ? ""
                : "the agent works with epoll; probes cost more. Allow io_uring (kernel.io_uring_disabled, seccomp) to "
                  "change that");
}

void check_limits(Report& out) {
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  if (files.rlim_max >= kDescriptorsWanted) {
    out.add("limits", "open files", "ok", fmt::format("hard limit {}", files.rlim_max));
  } else {
    out.add("limits", "open files", "warn",
            fmt::format("hard limit {}: enough for about {} endpoints under probe", files.rlim_max, files.rlim_max / 2),
            "set LimitNOFILE=65536 in the unit");
  }
}

void check_neighbours(const AgentSettings& settings, const std::string& cgroup_root, bool unread, Report& out) {
  if (settings.cgroups.empty()) {
    if (unread) return;  // which was said
    out.add("neighbours", "cgroups", "warn", "agent.cgroups is empty: nothing would be balanced",
            "name the cgroups to serve, such as [/system.slice/shop.service]; [/] is the whole host");
    return;
  }
  const std::string own = settings.exempt_cgroup.empty() ? "" : cgroup_root + settings.exempt_cgroup;
  std::vector<std::string> there;
  for (const std::string& cgroup : settings.cgroups) {
    if (const auto id = datapath::cgroup_id(cgroup_root + cgroup); !id) {
      out.add("neighbours", cgroup, "warn", "this cgroup is not there (yet)",
              "start what runs in it; the agent attaches as soon as it exists");
      continue;
    }
    there.push_back(cgroup);
    if (!datapath::runs_anything(cgroup_root + cgroup, own).value_or(true)) {
      out.add("neighbours", cgroup, "warn", "this cgroup is there and nothing runs in it",
              "start what runs there, or correct agent.cgroups: the line 0:: of /proc/PID/cgroup is where it is");
    }
  }
  const auto others = datapath::other_programs(settings.bpffs + "/links", cgroup_root, there);
  if (!others) {
    out.add("neighbours", "other programs", "warn", others.error().message, others.error().remedy);
    return;
  }
  for (const auto& other : *others) {
    const bool balancer = other.name.starts_with("cil_") || other.name.starts_with("sock4_") ||
                          other.name.starts_with("sock6_") || other.name.starts_with("cgroup_connect") ||
                          other.name.starts_with("mesh_");
    out.add("neighbours", fmt::format("{} {}", other.cgroup, other.hook), "warn",
            fmt::format("program {} ({}) is on this hook too{}", other.program_id, other.name,
                        balancer ? ": another socket balancer" : ""),
            balancer
                ? "let only one of them own a service address: what the first rewrites the second no longer recognises"
                : "both run; a connect that it denies stays denied");
  }
  if (others->empty() && !there.empty())
    out.add("neighbours", "other programs", "ok", "no other program on these hooks");
}

/// A mesh of its own for one check; leaves nothing.
class SelfTest {
 public:
  explicit SelfTest(std::string cgroup_root, std::string bpffs)
      : cgroup_root_(std::move(cgroup_root)),
        cgroup_(fmt::format("/meshd-check-{}", ::getpid())),
        bpffs_(fmt::format("{}-check-{}", bpffs, ::getpid())) {}
  ~SelfTest() {
    datapath_.reset();
    [[maybe_unused]] const auto detached = datapath::detach_all(bpffs_);
    ::rmdir((cgroup_root_ + cgroup_).c_str());
  }

  base::Result<datapath::CanaryReport> run() {
    if (::mkdir((cgroup_root_ + cgroup_).c_str(), 0755) != 0)
      return base::fail_errno(errno, "make cgroup " + cgroup_root_ + cgroup_);
    datapath_ = MESH_TRY(datapath::Datapath::open({.directory = bpffs_,
                                                   .cgroup_root = cgroup_root_,
                                                   .cgroups = {cgroup_},
                                                   .sizes = kSelfTestSizes,
                                                   .exempt_cgroup_id = 0,
                                                   .version = std::string(kVersion)}));
    const auto loop = MESH_TRY(io::make_loop(io::LoopKind::kEpoll));
    const CanarySettings vips;
    auto reported = std::make_shared<std::optional<datapath::CanaryReport>>();
    CanaryRunner::Options options;
    options.cgroup_root = cgroup_root_;
    options.vip4 = MESH_TRY(base::IpAddress::parse(vips.address4));
    options.vip6 = MESH_TRY(base::IpAddress::parse(vips.address6));
    const auto runner = MESH_TRY(
        CanaryRunner::open(*loop.loop, std::move(options), [&, reported](const datapath::CanaryReport& report) {
          *reported = report;
          loop.loop->stop();
        }));
    auto grace = MESH_TRY(datapath::make_grace());
    const auto writer = MESH_TRY(datapath::Writer::open(datapath_->store(), std::move(grace),
                                                        [] { return std::unordered_set<std::uint32_t>{}; }));
    auto update = std::make_shared<model::Update>();
    update->services = runner->services();
    const std::vector<discovery::Ranked> updates = {{update}};
    discovery::Merger merger;
    balance::Router router;
    MESH_CHECK(writer->apply(router.route(merger.merge(updates, 1), {}, {})));
    runner->watch({cgroup_});
    Deadline deadline{*loop.loop};
    loop.loop->arm(deadline.timer, loop.loop->now() + std::chrono::milliseconds(kSelfTestTimeoutMs));
    loop.loop->run();
    if (!*reported) return base::fail(base::ErrorKind::kTimeout, "hear of the canary: no report within 5 s");
    return **reported;
  }

 private:
  struct Deadline {
    explicit Deadline(io::Loop& owner) : loop(owner) {}
    void expire(base::TimePoint) { loop.stop(); }
    io::Loop& loop;
    io::MemberTimer<Deadline, &Deadline::expire> timer{*this};
  };
  const std::string cgroup_root_;
  const std::string cgroup_;
  const std::string bpffs_;
  std::unique_ptr<datapath::Datapath> datapath_;
};

void check_self_test(const AgentSettings& settings, const std::string& cgroup_root, Report& out) {
  const auto report = SelfTest(cgroup_root, settings.bpffs).run();
  if (!report) {
    out.add("self-test", "connect", "fail", report.error().message, report.error().remedy);
    return;
  }
  if (!report->error.empty()) out.add("self-test", "connect", "fail", report->error, "see the lines above");
  for (const auto& check : report->checks) {
    out.add(
        "self-test", std::string(to_string(check.kind)), check.ok ? "ok" : "fail",
        check.ok ? "a connection was balanced and shows the address it asked for" : check.detail,
        check.ok ? "" : "see the lines above; `dmesg` and the other programs on the hooks are the next places to look");
  }
}

}  // namespace

std::vector<api::CheckItem> check_plaintext(const Config& config, base::WallTime now) {
  constexpr auto kSoon = std::chrono::days(14);
  std::vector<api::CheckItem> items;
  for (const relay::MeshService& one : config.relay.mesh.services) {
    if (one.plaintext == relay::Plaintext::kUnwatched) continue;
    const relay::PlaintextVerdict verdict = relay::judge_plaintext(one, now);
    api::CheckItem& item = items.emplace_back(api::CheckItem{"plaintext", one.service, "ok", "is refused", ""});
    if (verdict.end) {
      item.detail =
          fmt::format("is {} {}", verdict.taken ? "taken until" : "refused since", base::format_rfc3339(*verdict.end));
    }
    if (verdict.taken) item.detail += ", for " + base::format_age(*verdict.end - now);
    if (verdict.taken && *verdict.end - now < kSoon) {
      item.state = "warn";
      item.remedy = "mesh_relay_plaintext_total says whether any still comes, the log from where";
    }
    for (const auto& service : config.services) {
      const bool meant = service->name == one.service ||
                         fmt::format("{}:{}", service->name, service->frontend.address.port) == one.service;
      if (!meant || !service->probe || service->probe->port != 0) continue;
      items.push_back({"plaintext", one.service, "warn", "probes by other nodes are plaintext, too",
                       "give them another port of the workload: probe.port"});
      break;
    }
  }
  return items;
}

api::CheckReport check_host(const Config& config, const std::optional<base::Error>& unread) {
  const AgentSettings& settings = config.agent;
  Report out;
  if (unread) out.add("configuration", "meshd.yaml", "warn", unread->message, unread->remedy);
  check_requirements(settings, out);
  check_io(settings, out);
  check_limits(out);
  std::ranges::move(check_plaintext(config, base::wall_now()), std::back_inserter(out.report.items));
  const bool capable = std::ranges::none_of(out.report.items, [](const auto& item) { return item.state == "fail"; });
  if (!capable) {
    out.add("self-test", "connect", "skip", "not tried: something above is missing");
    return std::move(out.report);
  }
  const auto cgroup_root =
      settings.cgroup_root.empty() ? datapath::find_cgroup2_mount() : base::Result<std::string>(settings.cgroup_root);
  if (!cgroup_root) {
    out.add("neighbours", "cgroup2", "fail", cgroup_root.error().message, cgroup_root.error().remedy);
    return std::move(out.report);
  }
  check_neighbours(settings, *cgroup_root, unread.has_value(), out);
  check_self_test(settings, *cgroup_root, out);
  return std::move(out.report);
}

bool has_failures(const api::CheckReport& report) {
  return std::ranges::any_of(report.items, [](const auto& item) { return item.state == "fail"; });
}

}  // namespace mesh::app
