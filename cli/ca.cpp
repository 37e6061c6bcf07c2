// SPDX-License-Identifier: Apache-2.0
// `meshctl ca init|issue|rotate`: the authority for labs. meshd makes the keys; meshctl links no cryptography.
#include <fmt/format.h>

#include <memory>
#include <ostream>

#include "api/authority.hpp"
#include "cli/context.hpp"
#include "cli/meshd.hpp"

namespace mesh::cli {
namespace {

struct Request {
  std::string folder = "/etc/meshd/ca";
  std::string trust_domain;
  std::string id;
  std::string out;
  std::string days = "3650";
  std::string hours = "24";
  bool finish = false;
};

base::Result<ExitCode> run_ca(Context& context, std::vector<std::string> arguments) {
  const MeshdAnswer answer = MESH_TRY(run_meshd(context, std::move(arguments)));
  if (answer.exit_code != 0) return static_cast<ExitCode>(answer.exit_code);  // meshd has said why
  const api::Json document = MESH_TRY(api::detail::parse(answer.output));
  MESH_TRY(show<api::AuthorityView>(context, document, [&](const api::AuthorityView& shown) {
    context.out << fmt::format("{}, until {}; its bundle has {}\n",
                               shown.id.empty() ? "the authority of " + shown.trust_domain : shown.id, shown.expires_at,
                               shown.authorities == 1 ? "one authority" : "the old and the new authority");
    for (const std::string& file : shown.files) context.out << "wrote " << printable(file) << '\n';
    context.out << "next: " << printable(shown.next) << '\n';
  }));
  return ExitCode::kOk;
}

}  // namespace

void add_ca(CLI::App& app, Context& context) {
  const auto request = std::make_shared<Request>();
  auto* ca = app.add_subcommand("ca", "an authority for labs: identities of workloads for relay.mesh");
  ca->require_subcommand(1);
  ca->footer(
      "The authority is a folder on one machine: ca.crt, ca.key (0600; it never leaves the folder) and bundle.crt,\n"
      "which every node gets as the trust bundle. A workload's identity is a SPIFFE ID.\n\n"
      "A lab from nothing:\n"
      "  meshctl ca init --trust-domain lab.example\n"
      "  meshctl ca issue --id spiffe://lab.example/node/a --out node-a   # tls.crt, tls.key, ca.crt\n"
      "  scp -r node-a a:/etc/meshd/identity\n\n"
      "A new key, and no connection lost:\n"
      "  1. meshctl ca rotate            bundle.crt now has the old and the new authority\n"
      "  2. copy bundle.crt to every node\n"
      "  3. meshctl ca issue ...         all identities again, by the new one\n"
      "  4. meshctl ca rotate --finish, and copy bundle.crt once more: the old one is not believed any more\n\n"
      "In production use SPIRE or cert-manager: relays read the same files.");
  const auto add = [&](const char* name, const char* help) {
    auto* command = ca->add_subcommand(name, help);
    command->add_option("--folder", request->folder, "of the authority")->capture_default_str();
    return command;
  };
  auto* init = add("init", "make an authority");
  init->add_option("--trust-domain", request->trust_domain, "whose identities it issues: lab.example")->required();
  init->add_option("--days", request->days, "how long it is good")->capture_default_str();
  init->callback([&context, request] {
    context.run = [&context, request] {
      return run_ca(context, {"ca", "init", "--folder", request->folder, "--trust-domain", request->trust_domain,
                              "--days", request->days});
    };
  });
  auto* issue = add("issue", "issue a certificate for an identity, or issue it again");
  issue->add_option("--id", request->id, "spiffe://TRUST-DOMAIN/PATH")->required();
  issue->add_option("--out", request->out, "folder that tls.crt, tls.key and ca.crt are written to")->required();
  issue->add_option("--hours", request->hours, "how long it is good")->capture_default_str();
  issue->callback([&context, request] {
    context.run = [&context, request] {
      return run_ca(context, {"ca", "issue", "--folder", request->folder, "--id", request->id, "--out", request->out,
                              "--hours", request->hours});
    };
  });
  auto* rotate = add("rotate", "make a new key; the bundle has the old authority and the new one");
  rotate->add_flag("--finish", request->finish, "make none, and believe the newest alone");
  rotate->add_option("--days", request->days, "how long the new one is good")->capture_default_str();
  rotate->callback([&context, request] {
    context.run = [&context, request] {
      std::vector<std::string> arguments{"ca", "rotate", "--folder", request->folder, "--days", request->days};
      if (request->finish) arguments.emplace_back("--finish");
      return run_ca(context, std::move(arguments));
    };
  });
}

}  // namespace mesh::cli
