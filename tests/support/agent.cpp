// SPDX-License-Identifier: Apache-2.0
#include "tests/support/agent.hpp"

#include <signal.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <stdexcept>

namespace mesh::test {
namespace {

constexpr std::uint16_t kFirstMetricsPort = 9464;

std::string slurp(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

std::string built_program(const std::string& name) {
  std::vector<std::string> folders;
  if (const char* folder = std::getenv("MESH_BIN_DIR"); folder != nullptr) folders.emplace_back(folder);
  for (const char* folder : {"/agent/app", "/cli", "/agent", "/bin", ""}) {
    folders.push_back(std::string(MESH_BUILD_DIR) + folder);
  }
  for (const std::string& folder : folders) {
    const std::filesystem::path path = folder + "/" + name;
    if (::access(path.c_str(), X_OK) == 0 && std::filesystem::is_regular_file(path)) return path;
  }
  return {};
}

std::string built_next_meshd() {
  const std::string path = std::string(MESH_BUILD_DIR) + "/tests/system/meshd_next";
  return ::access(path.c_str(), X_OK) == 0 ? path : "";
}

std::string agent_unavailable() {
  if (std::string why = Lab::unavailable(); !why.empty()) return why;
  for (const char* name : {"meshd", "meshctl"}) {
    if (built_program(name).empty()) return std::string("this build has no ") + name;
  }
  return {};
}

Agent::Agent(Lab& lab, const Host& host, AgentSpec spec)
    : lab_(lab), host_(host), spec_(std::move(spec)), bpffs_(lab.bpffs(spec_.name)) {
  static std::uint16_t agents = 0;
  metrics_port_ = static_cast<std::uint16_t>(kFirstMetricsPort + agents++);
  if (spec_.program.empty()) spec_.program = built_program("meshd");
  socket_ = lab_.folder() / (spec_.name + "-run") / "meshd.sock";
  write_config();
}

Agent::~Agent() { process_.kill(); }

void Agent::write_config() {
  std::string text = "apiVersion: meshd/v1\nagent:\n  cgroups: [";
  for (const std::string& name : spec_.cgroups) {
    text += (text.ends_with('[') ? "" : ", ") + lab_.cgroup_path(name);
  }
  const std::string metrics = spec_.metrics.empty()
                                  ? "listen: \"127.0.0.1:" + std::to_string(metrics_port_) + "\", " + spec_.more_metrics
                                  : spec_.metrics;
  text += "]\n  bpffs: " + bpffs_ + "\n  run_dir: " + (lab_.folder() / (spec_.name + "-run")).string() +
          "\n  state_dir: " + state_folder() + "\n  socket: " + socket_ + "\n  metrics: {" + metrics + "}\n" +
          spec_.agent_yaml + spec_.body;
  config_file_ = lab_.write_file(spec_.name + "/meshd.yaml", text);
}

void Agent::reconfigure(const std::string& body) {
  spec_.body = body;
  write_config();
}

void Agent::start() {
  SpawnOptions options = lab_.on(host_, spec_.name, spec_.name + ".log");
  options.environment = spec_.environment;
  process_ = Process::start(options, {spec_.program, "run", "--config", config_file_, "--state-dir", state_folder()});
}

void Agent::start_healthy() {
  start();
  if (!await_healthy()) {
    throw std::runtime_error("the agent does not become healthy\n" + ctl({"status"}).text + ctl({"status"}).errors +
                             log());
  }
}

bool Agent::await_healthy(std::chrono::milliseconds timeout) {
  return eventually(timeout, [this] { return ctl({"status"}).code == 0 || !running(); }) && running();
}

std::optional<int> Agent::terminate() {
  process_.signal(SIGTERM);
  return process_.wait(std::chrono::seconds(5));
}

Output Agent::ctl(const std::vector<std::string>& arguments) {
  std::vector<std::string> argv{built_program("meshctl"), "--socket", socket_};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return run(argv, lab_.on(host_, "operator"));
}

Json Agent::json(const std::vector<std::string>& arguments) {
  std::vector<std::string> argv = arguments;
  argv.insert(argv.end(), {"-o", "json"});
  const Output output = ctl(argv);
  Json parsed = Json::parse(output.text, nullptr, false);
  if (parsed.is_discarded())
    throw std::runtime_error("meshctl " + arguments[0] + ": no JSON: " + output.text + output.errors);
  return parsed;
}

Output Agent::meshd(const std::vector<std::string>& arguments) {
  std::vector<std::string> argv{spec_.program};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return run(argv, lab_.on(host_, "operator"));
}

Json Agent::dump() {
  const Output output = meshd({"dump", "--bpffs", bpffs_, "--json"});
  Json parsed = Json::parse(output.text, nullptr, false);
  if (parsed.is_discarded()) throw std::runtime_error("meshd dump: no JSON: " + output.text + output.errors);
  return parsed;
}

std::string Agent::http(const std::string& path) {
  const Output output = run({"curl", "-s", "-m", "5", "-o", "-", "-w", "\n%{http_code}",
                             "http://127.0.0.1:" + std::to_string(metrics_port_) + path},
                            lab_.on(host_, "operator"));
  const auto line = output.text.rfind('\n');
  return output.text.substr(line + 1) + "\n" + output.text.substr(0, line);
}

double Agent::share(const std::string& service, const std::string& address) {
  const Output output = ctl({"endpoints", service, "-o", "json"});
  const Json parsed = Json::parse(output.text, nullptr, false);
  if (parsed.is_discarded() || !parsed.contains("items")) return -1;
  for (const Json& item : parsed["items"]) {
    if (item.value("address", "") == address) return item.value("share", -1.0);
  }
  return -1;
}

std::string Agent::log() const { return slurp(lab_.folder() / (spec_.name + ".log")); }

}  // namespace mesh::test
