// SPDX-License-Identifier: Apache-2.0
#include "tests/support/sources_trial.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>
#include <stdexcept>
#include <thread>
#include <utility>

#include "tests/support/agent.hpp"
#include "tests/support/client.hpp"
#include "tests/support/registry_subjects.hpp"

namespace mesh::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kPatience = 40s;  // for status, and for recovery
constexpr auto kWatched = 2s;    // traffic is watched for at least so long in a fault

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

/// One source with its agent, through all faults.
class Trial {
 public:
  Trial(const Kind& kind, const std::function<void(const SourcesFinding&)>& report)
      : name_(kind.name), report_(report), subject_(kind.make(stage_)), clock_(make_clock()) {
    if (!fs::exists(shim())) throw std::runtime_error("this build has no " + shim());
    subject_->set(kOlder);
    agent_ = std::make_unique<Agent>(
        stage_.lab, stage_.node,
        AgentSpec{.body = subject_->body(), .environment = {"LD_PRELOAD=" + shim(), "MESH_CLOCK_OFFSET=" + clock_}});
    agent_->start_healthy();
    if (!eventually(kPatience, [this] { return is_answered_by(kOlder); })) {
      throw std::runtime_error(name_ + ": the service is not reached at first: " + what_answers() + "\n" +
                               agent_->log());
    }
    subject_->remember();
    subject_->set(kNewer);
    if (!eventually(kPatience, [this] { return is_answered_by(kNewer) && state() == "synced"; })) {
      throw std::runtime_error(name_ + ": a change is not seen: " + what_answers() + "\n" + agent_->log());
    }
  }

  void run() {
    for (const Fault& fault : subject_->faults()) report_(run(fault));
    report_(run(Fault{.name = "clock 10 h ahead, then 10 h back",
                      .strike = [this] { set_clock(10h); },
                      .mend = [this] { set_clock(-10h); },
                      .state = "synced"}));
    set_clock(0h);
    report_(reboot());
  }

 private:
  static std::string shim() { return std::string(MESH_BUILD_DIR) + "/tests/support/libclock_shim.so"; }
  std::string make_clock() {
    const std::string file = stage_.lab.write_file("clock", std::string(8, '\0'));
    return file;
  }
  void set_clock(std::chrono::hours hours) const {
    const std::int64_t seconds = std::chrono::seconds(hours).count();
    std::fstream file(clock_, std::ios::in | std::ios::out | std::ios::binary);
    file.write(reinterpret_cast<const char*>(&seconds), sizeof(seconds));
  }

  Json source() {
    const Output output = agent_->ctl({"sources", "-o", "json"});
    if (output.text.empty()) return Json::object();
    for (const Json& one : Json::parse(output.text)["items"]) {
      if (one["name"] == name_) return one;
    }
    return Json::object();
  }
  std::string state() { return source().value("state", ""); }

  std::map<std::string, int> answers() {
    if (address_.empty()) {
      const Output output = agent_->ctl({"services", subject_->service(), "-o", "json"});
      if (output.code != 0) return {{"no service", 1}};
      const std::string frontend = Json::parse(output.text)["items"][0]["frontend"];
      address_ = frontend.substr(0, frontend.find('/'));
    }
    return tally(call(stage_.lab.on(stage_.node, "apps"), Via::kTcp, address_, 16));
  }
  bool is_answered_by(const Servers& servers) {
    std::set<std::string> wanted;
    for (const int one : servers) wanted.insert("web" + std::to_string(one));
    const auto found = answers();
    if (wanted.empty())
      return std::ranges::all_of(found, [](const auto& one) { return one.first.starts_with("errno "); });
    return std::ranges::equal(found, wanted, {}, &std::pair<const std::string, int>::first);
  }
  std::string what_answers() {
    std::vector<std::string> names;
    for (const auto& [name, count] : answers()) names.push_back(name);
    return fmt::format("{}", fmt::join(names, " "));
  }

  /// ListenDrops of all servers: connects that fail for them tell of a busy machine, not of the mesh.
  std::uint64_t dropped_syns() {
    std::uint64_t sum = 0;
    for (const Host* const web : stage_.webs) {
      std::istringstream lines(mesh::test::run({"cat", "/proc/net/netstat"}, stage_.lab.on(*web, "others")).text);
      std::string names, values;
      while (std::getline(lines, names) && std::getline(lines, values)) {
        std::istringstream name_words(names), value_words(values);
        for (std::string name, value; name_words >> name && value_words >> value;) {
          if (name == "ListenDrops") sum += std::stoull(value);
        }
      }
    }
    return sum;
  }

  SourcesFinding run(const Fault& fault) {
    SourcesFinding finding{.source = name_, .fault = fault.name, .why_not = fault.why_not};
    if (!fault.why_not.empty()) return finding;
    const bool watched = !fault.during.empty();
    std::optional<ConnectLoop> loop;
    if (watched) loop.emplace(stage_.lab.on(stage_.node, "apps"), std::vector<LoopTarget>{{Via::kTcp, address_}});
    const std::uint64_t dropped = dropped_syns();
    auto begin = Clock::now();
    fault.strike();
    const bool shown = eventually(kPatience, [&] {
      const Json now = source();
      return now.value("state", "") == fault.state && now.value("error", "").contains(fault.says) &&
             is_answered_by(fault.during);
    });
    if (shown) {
      finding.shown_s = seconds_since(begin);
    } else {
      finding.faults.push_back(
          fmt::format("status says {}, not {}; {} answers", source().dump(), fault.state, what_answers()));
    }
    // Whether it stays so.
    std::this_thread::sleep_for(kWatched);
    const Json said = source();
    finding.status = said.value("state", "?");
    if (const std::string error = said.value("error", ""); !error.empty()) finding.status += ": " + error;
    if (fault.state == "stale" && said.value("error", "").empty()) finding.faults.emplace_back("stale, and no error");
    if (!is_answered_by(fault.during)) finding.faults.push_back("it did not stay so: " + what_answers() + " answers");

    begin = Clock::now();
    fault.mend();
    if (eventually(kPatience, [&] { return state() == "synced" && is_answered_by(kNewer); })) {
      finding.recovered_s = seconds_since(begin);
    } else {
      finding.faults.push_back(fmt::format("it does not recover: {}; {} answers", source().dump(), what_answers()));
    }
    if (loop) {
      const auto counts = loop->finish();
      finding.connects = counts[0].attempts;
      finding.failed = counts[0].failures;
      if (finding.failed > 0) {
        finding.faults.push_back(
            fmt::format("{} connects failed, first with {}; servers dropped {} SYNs because they did not run",
                        finding.failed, ::strerrorname_np(counts[0].first_errno), dropped_syns() - dropped));
      }
    }
    return finding;
  }

  /// Everything in the kernel is gone, and the registry is down.
  SourcesFinding reboot() {
    SourcesFinding finding{.source = name_, .fault = "reboot with the registry down"};
    const std::string last_good = agent_->state_folder() + "/last-good.state";  // what the journal has does not count
    const bool saved =
        eventually(kPatience, [&] { return run_in({"grep", "-qF", stage_.ip(kNewer.back()), last_good}); });
    if (!saved) finding.faults.emplace_back("the last good state is not on disk");
    agent_->kill();
    subject_->stop();
    const Output detached = agent_->meshd({"detach", "--bpffs", agent_->bpffs()});
    if (detached.code != 0) finding.faults.push_back("detach: " + detached.errors);
    if (!is_answered_by(kNobody)) finding.faults.emplace_back("the kernel still has tables: this was no reboot");
    auto begin = Clock::now();
    agent_->start();
    if (eventually(kPatience, [this] { return is_answered_by(kNewer); })) {
      finding.shown_s = seconds_since(begin);
    } else {
      finding.faults.push_back("endpoints from disk are not reached: " + what_answers());
    }
    if (!eventually(kPatience, [this] { return state() == "stale"; }))
      finding.faults.emplace_back("it is not said to be stale");
    const Json said = source();
    finding.status = said.value("state", "?") + ": " + said.value("error", "");
    begin = Clock::now();
    subject_->start();
    if (eventually(kPatience, [this] { return state() == "synced" && is_answered_by(kNewer); })) {
      finding.recovered_s = seconds_since(begin);
    } else {
      finding.faults.push_back(fmt::format("it does not recover: {}; {} answers", source().dump(), what_answers()));
    }
    return finding;
  }
  static bool run_in(const std::vector<std::string>& argv) { return mesh::test::run(argv).code == 0; }

  const std::string name_;
  const std::function<void(const SourcesFinding&)>& report_;
  Stage stage_;
  std::unique_ptr<Subject> subject_;
  std::string clock_;
  std::unique_ptr<Agent> agent_;
  std::string address_;
};

}  // namespace

std::vector<std::string> sources_on_trial() {
  std::vector<std::string> names;
  for (const Kind& one : registry_kinds()) names.push_back(one.name);
  return names;
}

void run_sources_trial(const SourcesOptions& options) {
  ::signal(SIGPIPE, SIG_IGN);
  for (const Kind& one : registry_kinds()) {
    if (!options.sources.empty() && std::ranges::find(options.sources, one.name) == options.sources.end()) continue;
    if (const std::string why = one.unavailable(); !why.empty()) {
      options.report({.source = one.name, .fault = "all", .why_not = why, .skipped = true});
      continue;
    }
    Trial(one, options.report).run();
  }
}

}  // namespace mesh::test
