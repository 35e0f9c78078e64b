# All that a Lambda application has, as people write it for AWS: nothing in it knows of rie but the endpoint.
terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }
}

variable "endpoint" {}
variable "services" {}
variable "image" {}
variable "queue" {}
variable "timeout" { default = 5 }
variable "weight" { default = 0.1 }
variable "retention" { default = 14 }
variable "message" { default = "one" }

provider "aws" {
  region     = "us-east-1"
  access_key = "testing"
  secret_key = "testing"
  endpoints {
    lambda    = var.endpoint
    logs      = var.endpoint
    sts       = var.endpoint
    scheduler = var.services
  }
}

locals {
  role = "arn:aws:iam::123456789012:role/app"
}

resource "aws_lambda_layer_version" "libs" {
  layer_name          = "libs"
  filename            = "${path.module}/layer.zip"
  source_code_hash    = filebase64sha256("${path.module}/layer.zip")
  compatible_runtimes = ["python3.11"]
  description         = "shared code"
}

resource "aws_lambda_layer_version_permission" "libs" {
  layer_name     = aws_lambda_layer_version.libs.layer_name
  version_number = aws_lambda_layer_version.libs.version
  statement_id   = "everybody"
  principal      = "*"
  action         = "lambda:GetLayerVersion"
}

resource "aws_lambda_function" "zipped" {
  function_name    = "zipped"
  role             = local.role
  runtime          = "python3.11"
  handler          = "app.handler"
  filename         = "${path.module}/code.zip"
  source_code_hash = filebase64sha256("${path.module}/code.zip")
  layers           = [aws_lambda_layer_version.libs.arn]
  timeout          = var.timeout
  publish          = true
  environment {
    variables = { MESSAGE = var.message }
  }
  ephemeral_storage {
    size = 1024
  }
  dead_letter_config {
    target_arn = var.queue
  }
  tracing_config {
    mode = "Active"
  }
  logging_config {
    log_format            = "JSON"
    application_log_level = "DEBUG"
    system_log_level      = "WARN"
  }
  tags = { team = "rie" }
}

resource "aws_lambda_function" "image" {
  function_name                  = "image"
  role                           = local.role
  package_type                   = "Image"
  image_uri                      = var.image
  memory_size                    = 256
  reserved_concurrent_executions = 20
  image_config {
    command = ["app.handler"]
  }
}

resource "aws_lambda_alias" "live" {
  name             = "live"
  description      = "what callers get"
  function_name    = aws_lambda_function.zipped.function_name
  function_version = "1"
  dynamic "routing_config" {
    for_each = aws_lambda_function.zipped.version == "1" ? [] : [aws_lambda_function.zipped.version]
    content {
      additional_version_weights = { (routing_config.value) = var.weight }
    }
  }
}

resource "aws_lambda_function_url" "live" {
  function_name      = aws_lambda_function.zipped.function_name
  qualifier          = aws_lambda_alias.live.name
  authorization_type = "NONE"
  invoke_mode        = "RESPONSE_STREAM"
  cors {
    allow_origins = ["https://example.com"]
    allow_methods = ["GET", "POST"]
    max_age       = 60
  }
}

resource "aws_lambda_permission" "bucket" {
  statement_id   = "from-the-bucket"
  action         = "lambda:InvokeFunction"
  function_name  = aws_lambda_function.zipped.function_name
  principal      = "s3.amazonaws.com"
  source_arn     = "arn:aws:s3:::photos"
  source_account = "123456789012"
  qualifier      = aws_lambda_alias.live.name
}

# An account is named by its root's ARN: the provider compares with what the service makes of a number.
resource "aws_lambda_permission" "account" {
  statement_id  = "from-an-account"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.image.function_name
  principal     = "arn:aws:iam::210987654321:root"
}

resource "aws_lambda_permission" "role" {
  statement_id  = "from-a-role"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.image.function_name
  principal     = "arn:aws:iam::210987654321:role/team/caller"
}

resource "aws_lambda_provisioned_concurrency_config" "warm" {
  function_name                     = aws_lambda_function.zipped.function_name
  qualifier                         = "1"
  provisioned_concurrent_executions = 2
}

resource "aws_lambda_function_event_invoke_config" "events" {
  function_name                = aws_lambda_function.zipped.function_name
  maximum_event_age_in_seconds = 120
  maximum_retry_attempts       = 0
  destination_config {
    on_failure {
      destination = var.queue
    }
  }
}

resource "aws_lambda_function_recursion_config" "loops" {
  function_name  = aws_lambda_function.image.function_name
  recursive_loop = "Allow"
}

resource "aws_lambda_runtime_management_config" "updates" {
  function_name     = aws_lambda_function.zipped.function_name
  update_runtime_on = "FunctionUpdate"
}

resource "aws_lambda_code_signing_config" "signed" {
  allowed_publishers {
    signing_profile_version_arns = ["arn:aws:signer:us-east-1:123456789012:/signing-profiles/p/abcdefghij"]
  }
  policies {
    untrusted_artifact_on_deployment = "Warn"
  }
}

resource "aws_lambda_event_source_mapping" "queue" {
  event_source_arn        = var.queue
  function_name           = aws_lambda_alias.live.arn
  batch_size              = 5
  function_response_types = ["ReportBatchItemFailures"]
  scaling_config {
    maximum_concurrency = 2
  }
  filter_criteria {
    filter {
      pattern = jsonencode({ body = { kind = ["order"] } })
    }
  }
  tags = { team = "rie" }
}

resource "aws_cloudwatch_log_group" "zipped" {
  name              = "/aws/lambda/zipped"
  retention_in_days = var.retention
  kms_key_id        = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
  tags              = { message = var.message }
}

resource "aws_cloudwatch_log_group" "rare" {
  name_prefix     = "rare"
  log_group_class = "INFREQUENT_ACCESS"
}

resource "aws_cloudwatch_log_subscription_filter" "errors" {
  name            = "errors"
  log_group_name  = aws_cloudwatch_log_group.zipped.name
  filter_pattern  = "ERROR"
  destination_arn = aws_lambda_function.image.arn
}

resource "aws_cloudwatch_log_stream" "jobs" {
  name           = "jobs.log"
  log_group_name = aws_cloudwatch_log_group.zipped.name
}

data "aws_cloudwatch_log_group" "zipped" {
  name = aws_cloudwatch_log_group.zipped.name
}

data "aws_cloudwatch_log_groups" "all" {
  log_group_name_prefix = "/aws/lambda/"
  depends_on            = [aws_cloudwatch_log_group.zipped]
}

data "aws_lambda_function" "zipped" {
  function_name = aws_lambda_function.zipped.function_name
  depends_on    = [aws_lambda_alias.live]
}

output "url" {
  value = aws_lambda_function_url.live.function_url
}

output "version" {
  value = aws_lambda_function.zipped.version
}

output "hash" {
  value = data.aws_lambda_function.zipped.code_sha256
}

output "group" {
  value = data.aws_cloudwatch_log_group.zipped.arn
}

output "groups" {
  value = data.aws_cloudwatch_log_groups.all.log_group_names
}

resource "aws_scheduler_schedule" "hourly" {
  name                         = "hourly"
  schedule_expression          = "rate(1 hour)"
  schedule_expression_timezone = "Europe/Berlin"
  flexible_time_window {
    mode                      = "FLEXIBLE"
    maximum_window_in_minutes = 15
  }
  target {
    arn      = aws_lambda_function.zipped.arn
    role_arn = local.role
    input    = jsonencode({ message = var.message })
    retry_policy {
      maximum_retry_attempts = 3
    }
    dead_letter_config {
      arn = var.queue
    }
  }
}
